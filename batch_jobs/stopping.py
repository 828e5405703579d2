"""How a job ends; one that is asked to stop finishes the block in hand and commits it."""

from __future__ import annotations

import signal
import threading
from enum import IntEnum
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE_S = 20.0  # for the block in hand; Kubernetes kills after 30 s


class Exit(IntEnum):
    """The exit code of a job."""

    OK = 0  # every row is edited
    REFUSED = 2  # before anything started
    FAILED_ROWS = 3  # it has finished, and some rows failed
    STOPPED = 4  # early; what is done is kept
    INTERRUPTED = 128 + signal.SIGINT  # asked to stop, likewise
    TERMINATED = 128 + signal.SIGTERM


class Overdue(BaseException):
    """The block in hand did not come to its end in time."""


class StopSignals:
    """SIGTERM and SIGINT become an `exit` to end with; `Overdue` ends the `with`
    block `grace_s` later, and a second signal ends the process as it usually does."""

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self.exit: Exit | None = None
        self._grace_s = grace_s
        self._usual: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._usual = {number: signal.getsignal(number) for number in SIGNALS}
            self.listen()
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> bool:
        self.arrived()
        self._restore()
        if isinstance(error, SystemExit) and error.code in SIGNALS:  # of Ray's, while it starts
            self.exit = Exit(128 + int(error.code))
            return True
        return isinstance(error, Overdue)

    def arrived(self) -> None:
        """The block in hand came to its end: what is left to do may take its time."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def listen(self) -> None:
        """Take the signals, also back from who took them since (`ray.init` does)."""
        for number in self._usual:
            signal.signal(number, self._stop)

    def _stop(self, number: int, _: FrameType | None) -> None:
        self.exit = Exit(128 + number)
        self._restore()
        signal.signal(signal.SIGALRM, self._raise)
        signal.setitimer(signal.ITIMER_REAL, self._grace_s)

    @staticmethod
    def _raise(number: int, _: FrameType | None) -> None:
        raise Overdue

    def _restore(self) -> None:
        for number, handler in self._usual.items():
            signal.signal(number, handler)
