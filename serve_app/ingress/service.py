"""The work of the routes: parse, admit, decode, have the model edit, encode. Knows no Ray."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from fastapi import Request, Response

from engine.edit import EditFailure, EditOutcome, EditRequest, EditResult
from engine.errors import NotReady
from engine.seeding import draw_seed
from engine.sources import Prepared
from engine.wire import OutputFormat, check_background
from serve_app.backend import Preview
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
from serve_app.ingress.model_queue import Limits
from serve_app.ingress.models import Models, ServedModel
from serve_app.ingress.parsing import ParsedEdit, check_undecoded, is_small, read_edit
from serve_app.ingress.record import EditRecord
from serve_app.ingress.results import Results, base_url
from serve_app.ingress.streaming import EventStream
from serve_app.schemas import (
    ImageEvent,
    ImagesResponse,
    Model,
    ModelsReadiness,
    ModelStatus,
    Readiness,
)
from serve_app.served import names_of


@dataclass(frozen=True, slots=True)
class DecodedEdit:
    """An edit whose source is decoded."""

    model: ServedModel
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
    """Serves models: holds the limits, the decode processes and the ways to the replicas.

    `answers` are kept in this process, unless another store takes their place; `statuses` tells
    how the replicas of each model are, where somebody knows.
    """

    def __init__(
        self,
        config: ServeConfig,
        models: Sequence[ServedModel],
        keys: ApiKeys | None = None,
        observe: Observe = lambda *_: None,
    ) -> None:
        self.config = config
        self.models = Models(models, names_of(config, [model.name for model in models]))
        self.statuses: Callable[[], Awaitable[Mapping[str, ModelStatus]]] | None = None
        self.keys = keys or ApiKeys({})
        self._codec = Codec(
            config.decode_workers, config.decode_timeout_s, config.accept, config.metadata
        )
        limits = {model.name: Limits.of(config.of_model(model.name)) for model in models}
        self._admission = Admission(limits, config.deadline_s, observe)
        self.answers: AnswerStore = KeptAnswers(config.idempotency_memory_mb * 2**20)
        self.results = Results.of(config)
        self.files = Files.of(config)
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
        body, model = parsed.body, self.models.find(parsed.body.model)
        record.model = model.name
        format: OutputFormat = body.output_format or "png"
        model.spec.check_sources(len(parsed.images), param=parsed.images_field)
        parsed = await with_stored(parsed, self.files, key)
        check_undecoded(parsed, self.config.accept)
        text, given = model.styles.apply(parsed.instruction, parsed.options, model.spec)
        options = model.spec.resolve(given, draw_seed())
        check_background(options, format)
        record.steps, record.num_images = options.num_inference_steps or 0, options.num_images
        self._admission.admit(record, cost_of(options, model.spec))
        with record.timed("decode_s"):
            prepared = await self._codec.decode(
                uuid.uuid4().hex, parsed.images, text, options, model.spec, parsed.mask
            )
        check_output(format, options, math.prod(prepared.finishing.geometry.output))
        previews = body.partial_images or 0
        return DecodedEdit(model, prepared, format, body.output_compression, previews, kept_at)

    async def _respond(self, edit: DecodedEdit, record: EditRecord) -> ImagesResponse:
        with record.timed("replica_s"):
            outcome = await edit.model.backend.edit(edit.request(record))
        result = self._result(outcome, edit, record)
        images = await self._render(result, edit, record)
        urls = None
        if self.results is not None and edit.base_url is not None:
            files = [image.b64 for image in images]
            urls = await self.results.urls(files, edit.format, edit.base_url)
        return self._answer(edit).body(result, images, urls)

    def _answer(self, edit: DecodedEdit) -> Answer:
        options, softened = edit.prepared.request.options, edit.prepared.warnings
        return Answer(edit.model.name, edit.format, options, softened)

    async def _render(
        self, result: EditResult, edit: DecodedEdit, record: EditRecord
    ) -> list[EncodedImage]:
        with record.timed("encode_s"):
            return await self._codec.render(
                result, edit.prepared.finishing, edit.format, edit.quality
            )

    def _result(self, outcome: EditOutcome, edit: DecodedEdit, record: EditRecord) -> EditResult:
        """Note what the model did; raises the error of an edit that failed."""
        edit.model.answered()
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
        async with aclosing(edit.model.backend.edit_stream(edit.request(record))) as events:
            async for event in events:
                if isinstance(event, Preview):
                    preview = await self._codec.render_preview(
                        event.pixels, edit.prepared.finishing.geometry, edit.format, edit.quality
                    )
                    yield answer.preview(event.index, preview)
                    continue
                record.replica_s = time.monotonic() - start
                result = self._result(event, edit, record)
                images = await self._render(result, edit, record)
                for completed in answer.completed(result, images):
                    yield completed

    async def model(self, name: str) -> Model:
        """Describe a served model; raises `ModelUnknown`."""
        model = self.models.find(name)
        statuses = await self.statuses() if self.statuses is not None else {}
        status = statuses.get(model.name)
        return model_card(model.name, model.spec, model.styles, self._started, status)

    async def ready(self) -> Readiness | ModelsReadiness:
        """Return the readiness of the model, or of several models what Serve tells of each, which
        starts none. Raises `NotReady` where no edit could be made."""
        if not self.config.models or self.statuses is None:
            return await self.models.default.ready()
        statuses = dict(await self.statuses())
        if not {"ready", "idle"} & set(statuses.values()):
            told = ", ".join(f"{name} {status}" for name, status in statuses.items())
            raise NotReady(f"no model can be edited by: {told or 'none is known yet'}")
        return ModelsReadiness(models=statuses)
