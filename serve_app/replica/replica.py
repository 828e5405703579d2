"""`EditReplica`: one loaded model behind a Ray Serve handle."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
from ray import serve

from engine.edit import EditFailure, EditOutcome, EditRequest
from engine.errors import ModelError
from engine.options import EditOptions
from engine.spec import ModelSpec
from serve_app.backend import Preview
from serve_app.config import ServeConfig
from serve_app.replica.loras import Tell, ToldLoras
from serve_app.replica.metrics import ReplicaMetrics
from serve_app.replica.watch import Watch
from serve_app.schemas import Readiness

logger = logging.getLogger("ray.serve")

Event = Preview | EditOutcome
BATCHER_TIMEOUT_S = 5.0  # of a health check, which fails at 15 s: its batch goes over in no time
STALLED_EXIT_CODE = 18  # the device hangs, or the denoising thread is gone
COMPILE_TIMEOUT_S = 900.0  # a step on a shape that is new to a compiled model may take minutes


def _warm_up(spec: ModelSpec) -> EditRequest:
    """Make an edit of one step, to be thrown away."""
    options = spec.resolve(EditOptions(num_inference_steps=1), seed=0)
    pixels = np.zeros((spec.resolution, spec.resolution, 3), np.uint8)
    return EditRequest("warm-up", pixels, "warm up", options)


class EditReplica:
    """Runs an `EditActor`, loaded once. Nothing raises for an edit: outcomes are values.

    `config`: of the model alone; `name`: by which it is served; `tell`: Serve, of its LoRAs.
    """

    def __init__(self, config: ServeConfig, spec: ModelSpec, name: str, tell: Tell) -> None:
        from engine.actor import EditActor

        engine = config.engine
        self._watch = Watch(COMPILE_TIMEOUT_S if engine.compile else config.deadline_s)
        self._metrics = ReplicaMetrics(name, engine.max_batch_size)
        self._name = name
        self._open: dict[str, Callable[[Event], None]] = {}  # whose caller still waits
        self._actor = EditActor(engine, spec, partial_image=self._show)
        self._loras = ToldLoras(lambda: self._actor.loras, tell)
        self._admit.set_max_batch_size(config.max_ongoing_requests)
        if engine.compile:  # minutes, which no client is to wait for
            (outcome,) = self._actor.edit_batch([_warm_up(spec)])
            if isinstance(outcome, EditFailure):
                raise ModelError(f"the model cannot be compiled: {outcome.message}")

    async def edit(self, request: EditRequest) -> EditOutcome:
        """Return the outcome of one edit, which ends with its caller."""
        return await self._edit(request, lambda _: None)

    async def edit_stream(self, request: EditRequest) -> AsyncGenerator[Event, None]:
        """Yield the previews of one edit, then its outcome; it ends with its caller."""
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
        if not self._actor.alive:
            logger.critical("the denoising thread has died: this replica gives up")
            os._exit(STALLED_EXIT_CODE)  # refusals in no time would draw all the traffic here
        self._open[request.id] = show
        try:
            with self._loras.asked(request):
                admitted: Future[EditOutcome] = await self._admit(request)
                outcome = await asyncio.shield(asyncio.wrap_future(admitted))
            self._metrics.observe(outcome, replace(self._actor.counters))
            return outcome
        except asyncio.CancelledError:
            self._actor.cancel(request.id)
            raise
        finally:
            self._open.pop(request.id, None)

    @serve.batch(batch_wait_timeout_s=0.0)
    async def _admit(self, arrived: list[EditRequest | None]) -> list[Future[EditOutcome] | None]:
        """Hand over what arrived together; each future resolves on its own. `None`: a health check
        that asks whether this still works."""
        requests = [request for request in arrived if request is not None]
        futures = iter(self._actor.submit(requests))
        for request in requests:
            if request.id not in self._open:  # its caller left before it was handed over
                self._actor.cancel(request.id)
        return [None if request is None else next(futures) for request in arrived]

    def _show(self, id: str, index: int, pixels: np.ndarray) -> None:
        """Hand a partial image on; the denoising thread calls this."""
        show = self._open.get(id)
        if show is not None:
            show(Preview(index, pixels))

    async def ready(self) -> Readiness:
        """Tell what is loaded: a replica answers when its model is."""
        actor = self._actor
        return Readiness(model=self._name, revision=actor.revision, in_flight=actor.in_flight)

    async def check_health(self) -> None:
        """Raise when the denoising thread is gone or the batcher does not answer, so that Serve
        replaces this replica. A device that hangs ends the process: nothing else gives it back."""
        actor = self._actor
        if not actor.alive:
            raise RuntimeError("the denoising thread has died")
        if self._watch.is_stalled(actor.in_flight, actor.counters.steps):
            logger.critical("no denoising step has ended for too long: this replica gives up")
            os._exit(STALLED_EXIT_CODE)
        async with asyncio.timeout(BATCHER_TIMEOUT_S):
            await self._admit(None)

    def __del__(self) -> None:
        if hasattr(self, "_actor"):
            self._actor.close()
