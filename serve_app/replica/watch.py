"""A watch for a replica that no longer gets on with its work."""

from __future__ import annotations

import time
from collections.abc import Callable

MIN_STALL_S = 30.0  # the first step of a lane may compile, warm up, or wait for the machine


class Watch:
    """Looks at the denoising thread now and then; `clock` gives seconds."""

    def __init__(self, stall_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stall_s = max(stall_s, MIN_STALL_S)
        self._clock = clock
        self._steps = -1
        self._moved_s = clock()

    def is_stalled(self, in_flight: int, steps: int) -> bool:
        """Tell whether no step has ended for `stall_s` though there was work all the time."""
        now = self._clock()
        if not in_flight or steps != self._steps:
            self._steps, self._moved_s = steps, now
        return now - self._moved_s > self._stall_s
