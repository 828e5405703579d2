"""A job that is asked to stop finishes the block in hand and commits it."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE_S = 20.0  # for the block in hand; Kubernetes kills after 30 s


class Overdue(BaseException):
    """The block in hand did not come to its end in time."""


class StopSignals:
    """SIGTERM and SIGINT become an `exit_code` (143, 130) to end with; `Overdue` ends the `with`
    block `grace_s` later, and a second signal ends the process as it usually does."""

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self.exit_code: int | None = None
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
            self.exit_code = 128 + int(error.code)
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
        self.exit_code = 128 + number
        self._restore()
        signal.signal(signal.SIGALRM, self._raise)
        signal.setitimer(signal.ITIMER_REAL, self._grace_s)

    @staticmethod
    def _raise(number: int, _: FrameType | None) -> None:
        raise Overdue

    def _restore(self) -> None:
        for number, handler in self._usual.items():
            signal.signal(number, handler)
