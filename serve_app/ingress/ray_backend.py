"""`EditReplica`s behind a Ray Serve handle: their deaths and absence as our errors."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from engine.edit import EditFailure, EditOutcome, EditRequest
from engine.errors import InternalError, NotReady, TransientError, WorkerCrashed
from serve_app.backend import Preview
from serve_app.schemas import Readiness

logger = logging.getLogger("ray.serve")

PAUSE_S = 0.1  # before an edit is tried again: the router must have seen the death
FAULTS = (RayError, DeploymentUnavailableError, ReplicaUnavailableError)


class RayBackend:
    """An edit whose replica dies or leaves is run again on another, once: Serve itself never
    repeats what a replica had taken."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def edit(self, request: EditRequest) -> EditOutcome:
        start = time.monotonic()
        try:
            outcome = await _answer(self._handle.edit.remote(request))
            if not _is_leaving(outcome):
                return outcome
        except WorkerCrashed:
            pass
        return await _answer(self._handle.edit.remote(await _again(request, start)))

    async def edit_stream(
        self, request: EditRequest
    ) -> AsyncGenerator[Preview | EditOutcome, None]:
        start, shown = time.monotonic(), 0
        for last_try in (False, True):
            send = self._handle.options(stream=True).edit_stream.remote
            try:
                async with aclosing(_events(send(request))) as events:
                    async for event in events:
                        if isinstance(event, Preview):
                            if event.index >= shown:  # not shown by the first try
                                shown = event.index + 1
                                yield event
                        elif last_try or not _is_leaving(event):
                            yield event
                            return
            except WorkerCrashed:
                if last_try:
                    raise
            request = await _again(request, start)

    async def ready(self) -> Readiness:
        """Of any replica: where the first that is asked has just died, of another."""
        try:
            return await _answer(self._handle.ready.remote())
        except WorkerCrashed:
            await asyncio.sleep(PAUSE_S)
            return await _answer(self._handle.ready.remote())


async def _again(request: EditRequest, start: float) -> EditRequest:
    """`request` for another replica, with the time that is left of what it had at `start`, and
    with another id: a replica that was out of reach for a moment may still have the first."""
    logger.warning("an edit lost its replica and is sent to another")
    await asyncio.sleep(PAUSE_S)
    request = replace(request, id=f"{request.id}-again")
    if request.timeout_s is None:
        return request
    left_s = request.timeout_s - (time.monotonic() - start)
    return replace(request, timeout_s=max(left_s, 0.0))


def _is_leaving(outcome: EditOutcome) -> bool:
    """Whether the replica refused because it is shutting down."""
    return isinstance(outcome, EditFailure) and outcome.code == NotReady.code


async def _answer(response: Any) -> Any:
    """The value of a `DeploymentResponse`; cancelled with its caller. Raises `TransientError`."""
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise
    except FAULTS as error:
        raise _our_error(error) from error


async def _events(response: Any) -> AsyncGenerator[Any, None]:
    """What a streaming handle yields; cancelled with its caller. Raises `TransientError`."""
    try:
        async for event in response:
            yield event
    except (asyncio.CancelledError, GeneratorExit):
        response.cancel()
        raise
    except FAULTS as error:
        raise _our_error(error) from error


def _our_error(error: Exception) -> TransientError:
    if isinstance(error, DeploymentUnavailableError | ReplicaUnavailableError):
        return NotReady("no model replica is available; try again later")
    if isinstance(error, RayActorError):
        return WorkerCrashed("the process that ran the edit died, and so did the one after it")
    return InternalError(f"{type(error).__name__}: {error}")
