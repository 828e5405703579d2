"""How much work waits, how fast it is done, and whether one more edit may join."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from engine.edit import EditFailure
from engine.errors import Overloaded
from engine.guidance import branches
from engine.options import ResolvedOptions
from engine.registry import ModelSpec
from serve_app.errors import EditFailed

HOLD_S = 0.5  # of one ingress alone; and a tenth of the wait: its queue must not run dry meanwhile
MEMORY_S = 10.0  # of working time: older edits count less and less for the rate


def cost_of(options: ResolvedOptions, spec: ModelSpec) -> float:
    """Estimate the work of an edit: steps x pixels x images x branches.

    Without a size the canvas has about the model's own pixels.
    """
    width, height = options.size_px or (spec.resolution, spec.resolution)
    count = options.num_images * len(branches(spec.guidance, options))
    return float(options.num_inference_steps * width * height * count)


class Line:
    """The work that waits for one thing, and how fast that was done lately."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.ahead = 0.0
        self._work = self._time_s = 0.0
        self._last_done_s = -math.inf

    @property
    def is_known(self) -> bool:
        return self._work > 0

    def seconds(self, cost: float) -> float:
        """How long so much will take; 0 until something has told the rate."""
        return cost * self._time_s / self._work if self._work else 0.0

    def done(self, cost: float, took_s: float) -> None:
        """Work of this cost was done, `took_s` after it came to its turn or a little before.

        Of the time since the work before it, at most `took_s` was spent on it: the rest was idle,
        or a replica was starting.
        """
        now = self._clock()
        spent_s = min(now - self._last_done_s, took_s)
        self._last_done_s = now
        fade = math.exp(-spent_s / MEMORY_S)
        self._work = self._work * fade + cost
        self._time_s = self._time_s * fade + spent_s


class Admission:
    """Counts the edits that this process holds, and their work in two lines: for the model in the
    unit of `cost_of`, for the processes that decode and encode in edits.

    It refuses the one after `max_in_flight`; when more than `min_held` are there, what would wait
    longer than `max_wait_s` for its turn; and, unless it is alone, what would not be done within
    `deadline_s`. Where every edit would be refused it says for how long, but at most `max_hold_s`.
    `clock` gives seconds.
    """

    def __init__(
        self,
        max_in_flight: int,
        min_held: int,
        max_wait_s: float,
        deadline_s: float,
        max_hold_s: float = HOLD_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_in_flight, self._min_held = max_in_flight, min_held
        self._max_hold_s = max_hold_s
        self._max_wait_s, self._deadline_s = max_wait_s, deadline_s
        self._model, self._codec = Line(clock), Line(clock)
        self.held = 0

    @property
    def wait_s(self) -> float:
        """How long what is here will take; 0 until an edit has told the rate."""
        return max(line.seconds(line.ahead) for line in (self._model, self._codec))

    def enter(self) -> None:
        """Take a place, before the body is read. Raises `EditFailed` when there is none, or when
        whatever came now would wait too long."""
        if self.held >= self._max_in_flight:
            raise self._refusal(f"{self.held} edits are in flight already", self._hold_s)
        self._refuse_a_long_wait(self.held)
        self.held += 1

    def admit(self, cost: float) -> None:
        """Queue the work of an edit that has a place; raises `EditFailed` where it would wait too
        long."""
        self._refuse_a_long_wait(self.held - 1)  # others were admitted while the body was read
        total_s = self.wait_s + self._model.seconds(cost)
        if self._codec.ahead and total_s > self._deadline_s:
            raise self._refusal(
                f"with what is queued ahead the edit would take about {total_s:.0f} s, more than "
                f"the {self._deadline_s:g} s it may; ask for fewer steps or images"
            )
        self._model.ahead += cost
        self._codec.ahead += 1

    def edited(self, cost: float, model_s: float) -> None:
        """The model made an edit of this cost, in `model_s` from its first call to its last."""
        self._model.done(cost, model_s)

    def coded(self, codec_s: float) -> None:
        """The source of an edit was decoded, and its images encoded, in so many seconds with what
        they waited for a process."""
        self._codec.done(1, codec_s)

    def leave(self, cost: float) -> None:
        """Give the place back; `cost`: of what was admitted, or 0."""
        self.held -= 1
        self._model.ahead = max(self._model.ahead - cost, 0.0) if self.held else 0.0
        self._codec.ahead -= cost > 0

    def _refuse_a_long_wait(self, held: int) -> None:
        if held >= self._min_held and self.wait_s > self._max_wait_s:
            reason = f"about {self.wait_s:.0f} s of work are queued ahead"
            raise self._refusal(reason, self._hold_s)

    @property
    def _hold_s(self) -> float:
        return min(self._max_hold_s, self.wait_s / 10)

    def _refusal(self, reason: str, hold_s: float = 0.0) -> EditFailed:
        guess_s = self.wait_s if self._model.is_known else self._deadline_s
        wait_s = max(math.ceil(round(guess_s, 3)), 1)
        error = Overloaded(f"{reason}; try again in {wait_s} s")
        return EditFailed(EditFailure.of("", error), wait_s, hold_s)
