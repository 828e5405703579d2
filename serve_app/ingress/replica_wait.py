"""The wait for an answer of a model whose replicas may not be there."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

from engine.errors import NotReady
from serve_app.schemas import ModelStatus

T = TypeVar("T")

LOOK_S = 1.0  # what is answered sooner had a replica
FRESH_S = 10.0  # a model that answered or was ready so lately has one
MARGIN_S = 0.5  # before the deadline of an edit, to say why it is not made
UNKNOWN_START_S = 10  # until when to come back, where no start was seen yet


class ReplicaWait:
    """Waits for answers of the replicas of a model, and no longer than one can come: an edit whose
    replica cannot be loaded, or is not by the deadline, is `NotReady` and says so.

    `status` tells how they are; it is asked where an answer takes long.
    """

    def __init__(self, model: str, status: Callable[[], Awaitable[ModelStatus]]) -> None:
        self._model, self._status = model, status
        self._seen_s = -math.inf  # when a replica was there
        self._start_s: float | None = None  # how long the last one took to start

    async def answer(self, coming: Awaitable[T], timeout_s: float | None) -> T:
        """Return what `coming` does, which is cancelled with its caller; raises `NotReady`."""
        answer = asyncio.ensure_future(coming)
        look = asyncio.ensure_future(self._look(timeout_s))
        try:
            await asyncio.wait({answer, look}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                look.result()  # raises
            return await self._result(answer)
        finally:
            for each in (answer, look):
                each.cancel()
            await asyncio.gather(answer, look, return_exceptions=True)

    async def _look(self, timeout_s: float | None) -> NoReturn:
        """Look after the replicas for as long as nobody has an answer; raises `NotReady` where none
        can come, or none by the deadline."""
        began_s = time.monotonic()
        until_s = math.inf if timeout_s is None else began_s + timeout_s - MARGIN_S
        absent = False
        while True:
            left_s = until_s - time.monotonic()
            await asyncio.sleep(min(LOOK_S, left_s) if left_s > 0 else LOOK_S)
            now_s = time.monotonic()
            absent = await self._is_absent(absent, now_s - began_s, is_late=now_s >= until_s)

    async def _result(self, task: asyncio.Future[T]) -> T:
        try:
            result = task.result()
        except NotReady:
            if await self._status() == "failed":
                raise self._failure() from None
            raise
        self._seen_s = time.monotonic()
        return result

    async def _is_absent(self, was_absent: bool, took_s: float, *, is_late: bool) -> bool:
        """Look whether a replica is missing; raises `NotReady` where none can come in time."""
        if time.monotonic() - self._seen_s < FRESH_S and not is_late:
            return False
        status = await self._status()
        if status == "failed":
            raise self._failure()
        if status == "ready":
            self._seen_s = time.monotonic()
            if was_absent:
                self._start_s = took_s
            return False
        if is_late:
            known_s = self._start_s or took_s + UNKNOWN_START_S
            again_s = max(math.ceil(known_s - took_s), 1)
            raise NotReady(
                f"model {self._model} is starting, and was not ready within the {took_s:.0f} s "
                f"that this edit could wait; try again in {again_s} s",
                retry_after_s=again_s,
            )
        return True

    def _failure(self) -> NotReady:
        error = NotReady(
            f"model {self._model} cannot be loaded: the log of the server says why; /v1/models "
            "tells which models can"
        )
        error.retryable = False
        return error
