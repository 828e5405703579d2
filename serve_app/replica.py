"""`EditReplica`: one loaded model behind a Ray Serve handle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future

import numpy as np
from ray import serve

from engine.config import EngineConfig
from engine.edit import EditOutcome, EditRequest
from engine.registry import ModelSpec
from serve_app.backend import Preview
from serve_app.schemas import Readiness

Event = Preview | EditOutcome


def max_ongoing_requests(config: EngineConfig) -> int:
    """Edits that one replica holds: the batch that runs, the one that is ready to follow, and room
    for `ready`."""
    return 2 * config.max_batch_size + 8


class EditReplica:
    """One `EditActor`, loaded once. Nothing raises for an edit: outcomes are values."""

    def __init__(self, config: EngineConfig, spec: ModelSpec) -> None:
        from engine.actor import EditActor

        self._open: dict[str, Callable[[Event], None]] = {}  # whose caller still waits
        self._actor = EditActor(config, spec, partial_image=self._show)
        self._admit.set_max_batch_size(max_ongoing_requests(config))

    async def edit(self, request: EditRequest) -> EditOutcome:
        """The outcome of one edit; when the caller is gone, so is the edit."""
        return await self._edit(request, lambda _: None)

    async def edit_stream(self, request: EditRequest) -> AsyncGenerator[Event, None]:
        """The previews of one edit, then its outcome; when the caller is gone, so is the edit."""
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event | None] = asyncio.Queue()

        def show(event: Event) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        edit = asyncio.create_task(self._edit(request, show))
        edit.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            yield edit.result()
        finally:
            edit.cancel()

    async def _edit(self, request: EditRequest, show: Callable[[Event], None]) -> EditOutcome:
        self._open[request.id] = show
        try:
            admitted: Future[EditOutcome] = await self._admit(request)
            return await asyncio.shield(asyncio.wrap_future(admitted))
        except asyncio.CancelledError:
            self._actor.cancel(request.id)
            raise
        finally:
            self._open.pop(request.id, None)

    @serve.batch(batch_wait_timeout_s=0.0)
    async def _admit(self, requests: list[EditRequest]) -> list[Future[EditOutcome]]:
        """Hand over what arrived together; each future resolves on its own."""
        futures = await asyncio.to_thread(self._actor.submit, requests)
        for request in requests:
            if request.id not in self._open:  # its caller left while it was handed over
                self._actor.cancel(request.id)
        return futures

    def _show(self, id: str, index: int, pixels: np.ndarray) -> None:
        """Called by the denoising thread with a partial image."""
        show = self._open.get(id)
        if show is not None:
            show(Preview(index, pixels))

    async def ready(self) -> Readiness:
        """Answers when the model is loaded."""
        actor = self._actor
        return Readiness(model=actor.spec.name, revision=actor.revision, in_flight=actor.in_flight)

    def check_health(self) -> None:
        """Raises when the denoising thread is gone, so that Serve replaces this replica."""
        if not self._actor.alive:
            raise RuntimeError("the denoising thread has died")

    def __del__(self) -> None:
        if hasattr(self, "_actor"):
            self._actor.close()
