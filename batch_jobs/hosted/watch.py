"""What ends a batch before its last line: somebody cancels it, or its time is over."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Literal, Self

from batch_jobs.stopping import SIGNALS
from storage.batch_store import BatchOrder, BatchStore

logger = logging.getLogger(__name__)

WATCH_EVERY_S = 2.0
Reason = Literal["cancelled", "expired"]


class Stopped(BaseException):
    """The process was asked to stop where its job takes no signals."""


class Watch:
    """Looks every few seconds, for the length of a `with` block, whether the batch is to end, and
    asks this process to stop then, as who sends it SIGTERM does. `look` is called each time.

    The block is of the main thread: in another it is not stopped, and reads `reason` afterwards.
    """

    def __init__(
        self,
        batches: BatchStore,
        order: BatchOrder,
        look: Callable[[], None],
        every_s: float = WATCH_EVERY_S,
    ) -> None:
        self._batches, self._order, self._look = batches, order, look
        self._every_s = every_s
        self.reason: Reason | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._usual: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self.reason = self._found()
        if threading.current_thread() is threading.main_thread():
            self._usual = {number: signal.getsignal(number) for number in SIGNALS}
            for number in SIGNALS:
                signal.signal(number, self._stop)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._usual:
            signal.signal(number, lambda *_: None)  # one that is on its way comes too late
        self._done.set()
        self._thread.join()
        for number, handler in self._usual.items():
            signal.signal(number, handler)

    def _found(self) -> Reason | None:
        if self._batches.cancelling_at(self._order.id) is not None:
            return "cancelled"
        return "expired" if self._batches.clock() >= self._order.expires_at else None

    def _watch(self) -> None:
        while self.reason is None and not self._done.wait(self._every_s):
            try:
                self._look()
                self.reason = self._found()
            except Exception as error:  # storage fails in dozens of ways, and comes back
                logger.warning("the batch cannot be looked at: %s", error)
        if self._usual and not self._done.is_set():
            os.kill(os.getpid(), signal.SIGTERM)

    @staticmethod
    def _stop(number: int, _: FrameType | None) -> None:
        raise Stopped
