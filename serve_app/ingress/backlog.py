"""The rate at which work of one kind was done lately."""

from __future__ import annotations

import math
from collections.abc import Callable

RATE_MEMORY_S = 10.0  # of working time: older edits count less and less for the rate


class Backlog:
    """Estimates how long work will take, in any unit; `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._done = self._time_s = 0.0  # work, and the seconds that it took
        self._last_done_s = -math.inf

    @property
    def has_rate(self) -> bool:
        return self._done > 0

    def seconds(self, work: float) -> float:
        """Estimate how long so much will take; 0 until something was done."""
        return work * self._time_s / self._done if self._done else 0.0

    def done(self, work: float, took_s: float) -> None:
        """Count work that was done, `took_s` after it came to its turn or a little before.

        Of the time since the work before it, at most `took_s` was spent on it: the rest was idle,
        or a replica was starting.
        """
        now_s = self._clock()
        spent_s = min(now_s - self._last_done_s, took_s)
        self._last_done_s = now_s
        fade = math.exp(-spent_s / RATE_MEMORY_S)
        self._done = self._done * fade + work
        self._time_s = self._time_s * fade + spent_s
