"""The work of the routes: parse, admit, decode, have the model edit, encode. Knows no Ray."""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from fastapi import Request, Response

from engine.built_in_styles import BUILT_IN
from engine.edit import EditFailure, EditOutcome, EditRequest, EditResult
from engine.errors import ModelUnknown, NotReady
from engine.fields import MAX_SHOWN
from engine.seeding import draw_seed
from engine.sources import Prepared
from engine.spec import ModelSpec
from engine.styles import Styles
from engine.wire import OutputFormat, check_background
from serve_app.backend import Backend, Preview
from serve_app.config import ServeConfig
from serve_app.ingress.admission import Admission, Observe, cost_of
from serve_app.ingress.answers import Answer
from serve_app.ingress.codec import Codec
from serve_app.ingress.codec_tasks import EncodedImage, check_output
from serve_app.ingress.files import Files, with_stored
from serve_app.ingress.idempotency import DAY_S, Turn
from serve_app.ingress.kept_answers import AnswerStore, KeptAnswers
from serve_app.ingress.keys import ApiKeys, Key
from serve_app.ingress.model_card import model_card
from serve_app.ingress.parsing import ParsedEdit, check_undecoded, is_small, read_edit
from serve_app.ingress.record import EditRecord
from serve_app.ingress.results import Results, base_url
from serve_app.ingress.streaming import EventStream
from serve_app.schemas import ImageEvent, ImagesResponse, Model, Readiness

READY_TIMEOUT_S = 2.0
BUSY_S = 10.0


@dataclass(frozen=True, slots=True)
class DecodedEdit:
    """An edit whose source is decoded."""

    prepared: Prepared
    format: OutputFormat  # of the images that are sent
    quality: int | None  # 0 to 100, of JPEG and WebP
    partial_images: int  # previews, 0 to 3
    base_url: str | None  # behind which its images are kept; None: they are sent

    def request(self, record: EditRecord) -> EditRequest:
        """Make what a replica is sent, with the time that is left."""
        return replace(
            self.prepared.request, timeout_s=record.left_s, partial_images=self.partial_images
        )


class EditService:
    """Serves one model: holds its limits, its decode processes and the way to its replicas.

    `answers` are kept in this process, unless another store takes their place.
    """

    def __init__(
        self,
        config: ServeConfig,
        spec: ModelSpec,
        backend: Backend,
        keys: ApiKeys | None = None,
        observe: Observe = lambda *_: None,
        styles: Styles = BUILT_IN,
    ) -> None:
        self.config = config
        self.spec = spec
        self.styles = styles
        self.keys = keys or ApiKeys({})
        self._backend = backend
        self._codec = Codec(
            config.decode_workers, config.decode_timeout_s, config.accept, config.metadata
        )
        self._admission = Admission(
            config.max_in_flight,
            2 * config.engine.max_batch_size,
            config.longest_wait_s,
            config.deadline_s,
            observe,
        )
        self.answers: AnswerStore = KeptAnswers(config.idempotency_memory_mb * 2**20)
        self.results = Results.of(config)
        self.files = Files.of(config)
        self._last_ready: Readiness | None = None
        self._last_answer_s = -math.inf
        self._started = int(time.time())

    def warm_up(self) -> None:
        """Start what goes on beside edits; returns when the decode processes are loaded."""
        self._codec.warm_up()
        for kept in (self.results, self.files):
            if kept is not None:
                kept.start_sweeping()

    def close(self) -> None:
        for kept in (self.results, self.files):
            if kept is not None:
                kept.close()
        self._codec.close()

    async def edit(self, request: Request) -> ImagesResponse | Response:
        """Answer one edit within the deadline; raises `EngineError`. A stream leaves by itself."""
        record, turn = EditRecord(self.config.deadline_s), Turn()
        try:
            key = self.keys.check(request.headers.get("authorization"))
            record.key = key.name
            self.keys.spend(key)
            self._admission.enter(record, body_is_small=is_small(request))
            async with record.within_deadline():
                parsed = await self._read(request, record)
                turn = await Turn.take(self.answers, request, key, parsed, record.left_s)
                answer: ImagesResponse | Response | None = turn.answer
                record.replayed = answer is not None
                if answer is None:
                    kept_at = base_url(self.config, request, parsed.body)
                    edit = await self._decode(parsed, record, kept_at, key)
                    if not record.stream:
                        for_s = self.config.results_lifetime_s if kept_at else DAY_S
                        answer = await turn.keep(await self._respond(edit, record), for_s)
        except BaseException as error:
            turn.give_up()
            self._admission.leave(record, error)
            raise
        if answer is None:
            return self._stream(edit, record, turn)
        self._admission.leave(record)
        return answer

    def _stream(self, edit: DecodedEdit, record: EditRecord, turn: Turn) -> EventStream:
        def end(error: BaseException | None) -> None:
            turn.give_up()
            self._admission.leave(record, error)

        keep = turn.keep_events if turn.is_keyed else None
        return EventStream(self._events(edit, record), record.within_deadline, end, keep)

    async def _read(self, request: Request, record: EditRecord) -> ParsedEdit:
        with record.timed("read_s"):
            parsed = await read_edit(request, self.config.max_body_bytes)
        record.stream = bool(parsed.body.stream)
        return parsed

    async def _decode(
        self, parsed: ParsedEdit, record: EditRecord, kept_at: str | None, key: Key
    ) -> DecodedEdit:
        """Refuse what cannot be or must wait too long, then decode its images."""
        body = parsed.body
        self._check_model(body.model)
        format: OutputFormat = body.output_format or "png"
        self.spec.check_sources(len(parsed.images), param=parsed.images_field)
        parsed = await with_stored(parsed, self.files, key)
        check_undecoded(parsed, self.config.accept)
        text, given = self.styles.apply(parsed.instruction, parsed.options, self.spec)
        options = self.spec.resolve(given, draw_seed())
        check_background(options, format)
        record.steps, record.num_images = options.num_inference_steps or 0, options.num_images
        self._admission.admit(record, cost_of(options, self.spec))
        with record.timed("decode_s"):
            prepared = await self._codec.decode(
                uuid.uuid4().hex, parsed.images, text, options, self.spec, parsed.mask
            )
        check_output(format, options, math.prod(prepared.finishing.geometry.output))
        previews = body.partial_images or 0
        return DecodedEdit(prepared, format, body.output_compression, previews, kept_at)

    async def _respond(self, edit: DecodedEdit, record: EditRecord) -> ImagesResponse:
        with record.timed("replica_s"):
            outcome = await self._backend.edit(edit.request(record))
        result = self._result(outcome, record)
        images = await self._render(result, edit, record)
        urls = None
        if self.results is not None and edit.base_url is not None:
            files = [image.b64 for image in images]
            urls = await self.results.urls(files, edit.format, edit.base_url)
        return self._answer(edit).body(result, images, urls)

    def _answer(self, edit: DecodedEdit) -> Answer:
        options, softened = edit.prepared.request.options, edit.prepared.warnings
        return Answer(self.spec.name, edit.format, options, softened)

    async def _render(
        self, result: EditResult, edit: DecodedEdit, record: EditRecord
    ) -> list[EncodedImage]:
        with record.timed("encode_s"):
            return await self._codec.render(
                result, edit.prepared.finishing, edit.format, edit.quality
            )

    def _result(self, outcome: EditOutcome, record: EditRecord) -> EditResult:
        """Note what the model did; raises the error of an edit that failed."""
        self._last_answer_s = time.monotonic()
        if isinstance(outcome, EditFailure):
            raise outcome.error()
        record.model_s, record.batch_size = outcome.model_s, outcome.batch_size
        self._admission.edited(record)
        return outcome

    async def _events(
        self, edit: DecodedEdit, record: EditRecord
    ) -> AsyncGenerator[ImageEvent, None]:
        """Yield an event for each preview, then one for each image."""
        start, answer = time.monotonic(), self._answer(edit)
        async with aclosing(self._backend.edit_stream(edit.request(record))) as events:
            async for event in events:
                if isinstance(event, Preview):
                    preview = await self._codec.render_preview(
                        event.pixels, edit.prepared.finishing.geometry, edit.format, edit.quality
                    )
                    yield answer.preview(event.index, preview)
                    continue
                record.replica_s = time.monotonic() - start
                result = self._result(event, record)
                images = await self._render(result, edit, record)
                for completed in answer.completed(result, images):
                    yield completed

    def _check_model(self, name: str | None) -> None:
        if name not in (None, self.spec.name, *self.config.aliases):
            raise ModelUnknown(
                f'the model "{str(name)[:MAX_SHOWN]}" is not served here; leave model out or send '
                f'"{self.spec.name}"',
                param="model",
            )

    def model(self, model_id: str) -> Model:
        """Describe the served model; raises `ModelUnknown` for any other."""
        self._check_model(model_id)
        return model_card(self.spec, self.styles, self._started)

    async def ready(self) -> Readiness:
        """Return a replica's readiness. Raises `NotReady` unless one answers within
        `READY_TIMEOUT_S`, or is too busy to but has answered an edit within `BUSY_S`."""
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                self._last_ready = await self._backend.ready()
        except TimeoutError:
            if self._last_ready is None or time.monotonic() - self._last_answer_s > BUSY_S:
                raise NotReady("no replica with a loaded model has answered") from None
        return self._last_ready
