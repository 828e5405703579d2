"""What the routes do: parse, admit, decode, have the model edit, encode. Knows no Ray."""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from fastapi import Request

from engine.edit import EditFailure, EditOutcome, EditRequest, EditResult
from engine.errors import ModelUnknown, NotReady, OptionInvalid
from engine.fields import MAX_SHOWN
from engine.registry import ModelSpec
from engine.seeding import draw_seed
from engine.sources import Prepared
from engine.wire import OutputFormat
from serve_app.backend import Backend, Preview
from serve_app.config import ServeConfig
from serve_app.errors import EditFailed
from serve_app.ingress.codec import Codec
from serve_app.ingress.codec_tasks import MAX_WEBP_PIXELS
from serve_app.ingress.flights import Flight, Flights, Observe
from serve_app.ingress.keys import ApiKeys
from serve_app.ingress.parsing import ParsedEdit, read_edit
from serve_app.ingress.streaming import EventStream
from serve_app.schemas import (
    CompletedEvent,
    EditedImage,
    ImageEvent,
    ImagesResponse,
    Model,
    PartialImageEvent,
    Readiness,
)

READY_TIMEOUT_S = 2.0
BUSY_S = 10.0


@dataclass(frozen=True, slots=True)
class Edit:
    """A decoded edit and how its images are to be sent."""

    prepared: Prepared
    format: OutputFormat
    quality: int | None
    partial_images: int

    def request(self, flight: Flight) -> EditRequest:
        return replace(
            self.prepared.request, timeout_s=flight.left_s, partial_images=self.partial_images
        )


class EditService:
    """One served model: its limits, its decode processes, the way to its replicas."""

    def __init__(
        self,
        config: ServeConfig,
        spec: ModelSpec,
        backend: Backend,
        keys: ApiKeys | None = None,
        observe: Observe = lambda *_: None,
    ) -> None:
        self.config = config
        self.spec = spec
        self.keys = keys or ApiKeys({})
        self._backend = backend
        self._codec = Codec(config.decode_workers, config.decode_timeout_s)
        self._flights = Flights(config, spec, observe)
        self._last_ready: Readiness | None = None
        self._last_answer_s = -math.inf
        self._started = int(time.time())

    def warm_up(self) -> None:
        """Start the decode processes; returns when all of them are loaded."""
        self._codec.warm_up()

    def close(self) -> None:
        self._codec.close()

    async def edit(self, request: Request) -> ImagesResponse | EventStream:
        """One edit within the deadline; raises `EngineError` and `EditFailed`. A stream lands its
        flight itself."""
        flight = self._flights.board()
        try:
            key = self.keys.check(request.headers.get("authorization"))
            flight.key = key.name
            self.keys.spend(key)
            self._flights.enter(flight)
            async with self._flights.limit(flight):
                parsed = await self._read(request, flight)
                edit = await self._decode(parsed, flight)
                if not flight.stream:
                    response = await self._respond(edit, flight)
        except BaseException as error:
            self._flights.land(flight, error)
            raise
        if flight.stream:
            return EventStream(
                self._events(edit, flight),
                lambda: self._flights.limit(flight),
                lambda error: self._flights.land(flight, error),
            )
        self._flights.land(flight)
        return response

    async def _read(self, request: Request, flight: Flight) -> ParsedEdit:
        with flight.timed("read_s"):
            parsed = await read_edit(request, self.config.max_body_bytes)
        flight.stream = bool(parsed.body.stream)
        return parsed

    async def _decode(self, parsed: ParsedEdit, flight: Flight) -> Edit:
        """Refuses what cannot be or must wait too long before anything is decoded."""
        body = parsed.body
        self._check_model(body.model)
        format: OutputFormat = body.output_format or "png"
        if format == "png" and body.output_compression not in (None, 100):
            raise OptionInvalid(
                "output_compression: PNG is lossless; leave it out, or ask for output_format "
                "jpeg or webp",
                param="output_compression",
            )
        options = self.spec.resolve(parsed.options, draw_seed())
        self._flights.admit(flight, options)
        with flight.timed("decode_s"):
            prepared = await self._codec.decode(
                uuid.uuid4().hex, parsed.source, parsed.instruction, options, self.spec
            )
        if format == "webp" and math.prod(prepared.geometry.output) > MAX_WEBP_PIXELS:
            raise OptionInvalid(
                f"output_format: a WebP may have at most {MAX_WEBP_PIXELS:,} pixels; ask for png "
                "or jpeg, or leave restore_size out",
                param="output_format",
            )
        return Edit(prepared, format, body.output_compression, body.partial_images or 0)

    async def _respond(self, edit: Edit, flight: Flight) -> ImagesResponse:
        with flight.timed("replica_s"):
            outcome = await self._backend.edit(edit.request(flight))
        result = self._result(outcome, flight)
        with flight.timed("encode_s"):
            files, (width, height) = await self._codec.encode(
                result.images, edit.prepared.geometry, edit.format, edit.quality
            )
        return ImagesResponse(
            created=int(time.time()),
            data=[
                EditedImage(b64_json=file, seed=seed)
                for file, seed in zip(files, result.seeds, strict=True)
            ],
            output_format=edit.format,
            size=f"{width}x{height}",
            model=self.spec.name,
            warnings=[*edit.prepared.warnings, *result.warnings],
        )

    def _result(self, outcome: EditOutcome, flight: Flight) -> EditResult:
        """Raises `EditFailed`."""
        self._last_answer_s = time.monotonic()
        if isinstance(outcome, EditFailure):
            raise EditFailed(outcome)
        self._flights.made(flight, outcome)
        return outcome

    async def _events(self, edit: Edit, flight: Flight) -> AsyncGenerator[ImageEvent, None]:
        """The previews, then an event for each image."""
        start = time.monotonic()
        async with aclosing(self._backend.edit_stream(edit.request(flight))) as events:
            async for event in events:
                if isinstance(event, Preview):
                    (image,) = await self._images([event.pixels], edit)
                    yield PartialImageEvent(partial_image_index=event.index, **image)
                    continue
                flight.replica_s = time.monotonic() - start
                result = self._result(event, flight)
                warnings = [*edit.prepared.warnings, *result.warnings]
                with flight.timed("encode_s"):
                    images = await self._images(result.images, edit)
                for image, seed in zip(images, result.seeds, strict=True):
                    yield CompletedEvent(
                        seed=seed, model=self.spec.name, warnings=warnings, **image
                    )

    async def _images(self, pixels: Sequence[np.ndarray], edit: Edit) -> list[dict[str, Any]]:
        """The fields of an `ImageEvent` for each canvas."""
        files, (width, height) = await self._codec.encode(
            pixels, edit.prepared.geometry, edit.format, edit.quality
        )
        size = f"{width}x{height}"
        common = {"created_at": int(time.time()), "size": size, "output_format": edit.format}
        return [{"b64_json": file, **common} for file in files]

    def _check_model(self, name: str | None) -> None:
        if name is not None and name != self.spec.name:
            raise ModelUnknown(
                f'the model "{name[:MAX_SHOWN]}" is not served here; leave model out or send '
                f'"{self.spec.name}"',
                param="model",
            )

    def model(self, model_id: str) -> Model:
        """Raises `ModelUnknown` for any but the served one."""
        self._check_model(model_id)
        return Model(
            id=self.spec.name,
            created=self._started,
            resolution_px=self.spec.resolution,
            size_multiple_px=self.spec.multiple,
            max_side_px=self.spec.max_side,
            defaults=dict(self.spec.defaults),
        )

    async def ready(self) -> Readiness:
        """Raises `NotReady` unless a replica answers within `READY_TIMEOUT_S`, or is too busy to
        but has answered an edit within `BUSY_S`."""
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                self._last_ready = await self._backend.ready()
        except TimeoutError:
            if self._last_ready is None or time.monotonic() - self._last_answer_s > BUSY_S:
                raise NotReady("no replica with a loaded model has answered") from None
        return self._last_ready
