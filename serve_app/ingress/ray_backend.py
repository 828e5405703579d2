"""The replicas behind a Ray Serve handle, their deaths and absence as our errors."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any

from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from engine.edit import EditFailure, EditOutcome, EditRequest
from engine.errors import InternalError, NotReady, TransientError, WorkerCrashed
from serve_app.backend import Preview
from serve_app.ingress.kept_answers import Claimed, Kept
from serve_app.ingress.replica_wait import ReplicaWait
from serve_app.schemas import Readiness

logger = logging.getLogger("ray.serve")

RETRY_PAUSE_S = 0.1  # before an edit is tried again: the router must have seen the death
RAY_FAULTS = (RayError, DeploymentUnavailableError, ReplicaUnavailableError)


class RayBackend:
    """Sends an edit to a replica, and to another one if that dies or leaves, once: Serve itself
    never repeats what a replica had taken."""

    def __init__(self, handle: DeploymentHandle, wait: ReplicaWait, batch_size: int) -> None:
        """`batch_size`: the samples that share a step."""
        self._handle, self._wait, self._batch_size = handle, wait, batch_size
        self._on_their_way: defaultdict[str, int] = defaultdict(int)  # edits, by LoRA

    async def edit(self, request: EditRequest) -> EditOutcome:
        start_s = time.monotonic()
        with self._way(request) as handle:
            try:
                outcome = await self._edit(handle, request)
                if not _is_leaving(outcome):
                    return outcome
            except WorkerCrashed:
                pass
            return await self._edit(self._handle, await _again(request, start_s))

    async def _edit(self, handle: DeploymentHandle, request: EditRequest) -> EditOutcome:
        answer: EditOutcome = await self._wait.answer(
            _answer(handle.edit.remote(request)), request.timeout_s
        )
        return answer

    @contextmanager
    def _way(self, request: EditRequest) -> Iterator[DeploymentHandle]:
        """Yield the handle of an edit while it is on its way: with a LoRA, to a replica that has
        it, unless a batch of them is on its way already: Serve would fill that replica up while
        another idles (docs/decisions.md)."""
        if request.adapter is None:
            yield self._handle
            return
        lora, handle = request.adapter.name, self._handle
        if self._on_their_way[lora] < self._batch_size:
            handle = handle.options(multiplexed_model_id=lora)
        self._on_their_way[lora] += 1
        try:
            yield handle
        finally:
            self._on_their_way[lora] -= 1

    async def edit_stream(
        self, request: EditRequest
    ) -> AsyncGenerator[Preview | EditOutcome, None]:
        with self._way(request) as handle:
            async with aclosing(self._streamed(handle, request)) as events:
                async for event in events:
                    yield event

    async def _streamed(
        self, handle: DeploymentHandle, request: EditRequest
    ) -> AsyncGenerator[Preview | EditOutcome, None]:
        start_s, shown = time.monotonic(), 0
        for last_try in (False, True):
            send = (self._handle if last_try else handle).options(stream=True).edit_stream.remote
            try:
                async with aclosing(_events(send(request))) as events:
                    event = await self._wait.answer(anext(events, None), request.timeout_s)
                    while event is not None:
                        if isinstance(event, Preview):
                            if event.index >= shown:  # not shown by the first try
                                shown = event.index + 1
                                yield event
                        elif last_try or not _is_leaving(event):
                            yield event
                            return
                        event = await anext(events, None)
            except WorkerCrashed:
                if last_try:
                    raise
            request = await _again(request, start_s)

    async def ready(self) -> Readiness:
        """Ask a replica whether it is ready, and another one if that has just died."""
        try:
            return await _answer(self._handle.ready.remote())
        except WorkerCrashed:
            await asyncio.sleep(RETRY_PAUSE_S)
            return await _answer(self._handle.ready.remote())


class RayAnswers:
    """Keeps answers in the one process that all ingresses share."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def claim(self, name: str, digest: str, holder: str, lease_s: float) -> Claimed:
        claimed: Claimed = await _kept(self._handle.claim.remote(name, digest, holder, lease_s))
        return claimed

    async def keep(self, name: str, holder: str, answer: Kept, for_s: float) -> None:
        await _kept(self._handle.keep.remote(name, holder, answer, for_s))

    async def release(self, name: str, holder: str) -> None:
        await _kept(self._handle.release.remote(name, holder))


async def _kept(response: Any) -> Any:
    try:
        return await _answer(response)
    except TransientError as error:
        raise NotReady(
            "the process that keeps answers for Idempotency-Key does not answer; try again later"
        ) from error


async def _again(request: EditRequest, start_s: float) -> EditRequest:
    """Make the request for another replica, with the time that is left of what it had at `start_s`,
    and with another id: a replica that was out of reach for a moment may still have the first."""
    logger.warning("an edit lost its replica and is sent to another")
    await asyncio.sleep(RETRY_PAUSE_S)
    request = replace(request, id=f"{request.id}-again")
    if request.timeout_s is None:
        return request
    left_s = request.timeout_s - (time.monotonic() - start_s)
    return replace(request, timeout_s=max(left_s, 0.0))


def _is_leaving(outcome: EditOutcome) -> bool:
    """Tell whether the replica refused because it is shutting down."""
    return isinstance(outcome, EditFailure) and outcome.code == NotReady.code


async def _answer(response: Any) -> Any:
    """Wait for the value of a `DeploymentResponse`, which is cancelled with its caller. Raises
    `TransientError`."""
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise
    except RAY_FAULTS as error:
        raise _our_error(error) from error


async def _events(response: Any) -> AsyncGenerator[Any, None]:
    """Yield what a streaming handle does; it is cancelled with its caller. Raises
    `TransientError`."""
    try:
        async for event in response:
            yield event
    except (asyncio.CancelledError, GeneratorExit):
        response.cancel()
        raise
    except RAY_FAULTS as error:
        raise _our_error(error) from error


def _our_error(error: Exception) -> TransientError:
    if isinstance(error, DeploymentUnavailableError | ReplicaUnavailableError):
        return NotReady("no model replica is available; try again later")
    if isinstance(error, RayActorError):
        return WorkerCrashed("the process that ran the edit died, and so did the one after it")
    return InternalError(f"{type(error).__name__}: {error}")
