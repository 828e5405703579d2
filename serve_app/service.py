"""What the routes do: parse, decode, have the model edit, encode. Knows no Ray: `Backend` does."""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from fastapi import Request

from engine.edit import EditFailure, EditOutcome, EditRequest, EditResult
from engine.errors import (
    DeadlineExceeded,
    InternalError,
    ModelUnknown,
    NotReady,
    OptionInvalid,
    Overloaded,
    WorkerCrashed,
)
from engine.registry import ModelSpec
from engine.seeding import draw_seed
from engine.sources import DecodePool, Prepared
from serve_app.codec import prepare_source, render, warm_up
from serve_app.config import ServeConfig
from serve_app.errors import EditFailed
from serve_app.parsing import ParsedEdit, read_edit
from serve_app.schemas import EditedImage, ImagesResponse, Model, Readiness

T = TypeVar("T")
READY_TIMEOUT_S = 2.0
BUSY_S = 10.0


class Backend(Protocol):
    """Where the model runs."""

    async def edit(self, request: EditRequest) -> EditOutcome:
        """Raises `TransientError` where no replica gave an outcome. Cancelling it cancels the
        edit."""

    async def ready(self) -> Readiness:
        """Returns when a replica with a loaded model has answered."""


class EditService:
    """One served model: its limits, its decode processes, the way to its replicas."""

    def __init__(self, config: ServeConfig, spec: ModelSpec, backend: Backend) -> None:
        self.config = config
        self.spec = spec
        self._backend = backend
        self._pool = DecodePool(config.decode_workers)
        self._in_flight = 0
        self._last_ready: Readiness | None = None
        self._last_answer_s = -math.inf
        self._started = int(time.time())

    def warm_up(self) -> None:
        """Start the decode processes; returns when all of them are loaded."""
        for future in [self._pool.submit(warm_up) for _ in range(self.config.decode_workers)]:
            future.result()

    def close(self) -> None:
        self._pool.close()

    async def edit(self, request: Request) -> ImagesResponse:
        """One edit within the deadline; raises `EngineError` and `EditFailed`."""
        if self._in_flight >= self.config.max_in_flight:
            raise Overloaded(f"{self._in_flight} edits are in flight already; try again later")
        self._in_flight += 1
        try:
            async with asyncio.timeout(self.config.deadline_s) as deadline:
                parsed = await read_edit(request, self.config.max_body_bytes)
                return await self._edit(parsed, deadline)
        except TimeoutError as error:
            if not deadline.expired():
                raise InternalError(f"TimeoutError: {error}") from error
            raise DeadlineExceeded(
                f"the edit was not done within {self.config.deadline_s:g} s and was given up; "
                "ask for fewer steps or images, or try when the server is less busy"
            ) from None
        finally:
            self._in_flight -= 1

    async def _edit(self, parsed: ParsedEdit, deadline: asyncio.Timeout) -> ImagesResponse:
        body = parsed.body
        self._check_model(body.model)
        format = body.output_format or "png"
        if format == "png" and body.output_compression not in (None, 100):
            raise OptionInvalid(
                "output_compression: PNG is lossless; leave it out, or ask for output_format "
                "jpeg or webp",
                param="output_compression",
            )
        options = self.spec.resolve(parsed.options, draw_seed())
        prepared: Prepared = await self._in_pool(
            prepare_source, uuid.uuid4().hex, parsed.source, parsed.instruction, options, self.spec
        )
        left_s = (deadline.when() or math.inf) - asyncio.get_running_loop().time()
        outcome = await self._backend.edit(replace(prepared.request, timeout_s=max(left_s, 0.0)))
        self._last_answer_s = time.monotonic()
        if isinstance(outcome, EditFailure):
            raise EditFailed(outcome)
        files, (width, height) = await self._in_pool(
            render, outcome.images, prepared.geometry, format, body.output_compression
        )
        return ImagesResponse(
            created=int(time.time()),
            data=_images(files, outcome),
            output_format=format,
            size=f"{width}x{height}",
            model=self.spec.name,
            warnings=[*prepared.warnings, *outcome.warnings],
        )

    async def _in_pool(self, function: Callable[..., T], *arguments: Any) -> T:
        """`function` in a decode process. One that dies is replaced, and what it held, or a
        neighbour's death broke, is tried once more."""
        for _ in range(2):
            try:
                return await asyncio.wrap_future(self._pool.submit(function, *arguments))
            except BrokenProcessPool:
                continue
        raise WorkerCrashed("the process that decodes and encodes images died twice")

    def _check_model(self, name: str | None) -> None:
        if name is not None and name != self.spec.name:
            raise ModelUnknown(
                f'the model "{name}" is not served here; leave model out or send '
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
            num_inference_steps=self.spec.num_inference_steps,
            guidance_scale=self.spec.guidance_scale,
            image_guidance_scale=self.spec.image_guidance_scale,
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


def _images(files: list[str], result: EditResult) -> list[EditedImage]:
    return [
        EditedImage(b64_json=file, seed=seed)
        for file, seed in zip(files, result.seeds, strict=True)
    ]
