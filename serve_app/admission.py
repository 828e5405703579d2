"""How much work waits, how fast it is done, and whether one more edit may join."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from engine.edit import EditFailure, EditOptions
from engine.errors import Overloaded
from engine.guidance import branch_weights
from engine.registry import ModelSpec
from serve_app.errors import EditFailed

MEMORY_S = 10.0  # of the model's time: older edits count less and less for the rate


def cost_of(options: EditOptions, spec: ModelSpec) -> float:
    """The work of an edit: steps x pixels x images x branch rows. `options` are resolved; without
    a size the canvas has about the model's own pixels."""
    width, height = options.size_px or (spec.resolution, spec.resolution)
    rows = len(branch_weights(options.guidance_scale or 0.0, options.image_guidance_scale or 0.0))
    return float((options.num_inference_steps or 1) * width * height * options.num_images * rows)


class Admission:
    """Counts the edits that this process holds and the work in them.

    It refuses what would be the `max_in_flight`-th and, when more than `min_held` are there, what
    would wait longer than `max_wait_s` for its turn. `clock` gives seconds.
    """

    def __init__(
        self,
        max_in_flight: int,
        min_held: int,
        max_wait_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_in_flight, self._min_held = max_in_flight, min_held
        self._max_wait_s = max_wait_s
        self._clock = clock
        self.held = 0
        self._ahead = 0.0
        self._work = self._time_s = 0.0
        self._last_done_s = -math.inf

    @property
    def wait_s(self) -> float:
        """How long what is here will take; 0 until an edit has told the rate."""
        return self._ahead * self._time_s / self._work if self._work else 0.0

    def enter(self) -> None:
        """Take a place, before the body is read. Raises `EditFailed` when there is none."""
        if self.held >= self._max_in_flight:
            raise self._refusal(f"{self.held} edits are in flight already")
        self.held += 1

    def admit(self, cost: float) -> None:
        """Queue the work of an edit that has a place; raises `EditFailed` where it would wait too
        long."""
        if self.held > self._min_held and self.wait_s > self._max_wait_s:
            raise self._refusal(f"about {self.wait_s:.0f} s of work are queued ahead")
        self._ahead += cost

    def done(self, cost: float, model_s: float) -> None:
        """An edit of this cost was made, in `model_s` from its first model call to its last.

        Of the time since the edit before it, the model spent at most `model_s` on it: the rest was
        idle, or a replica was starting.
        """
        now = self._clock()
        spent_s = min(now - self._last_done_s, model_s)
        self._last_done_s = now
        fade = math.exp(-spent_s / MEMORY_S)
        self._work = self._work * fade + cost
        self._time_s = self._time_s * fade + spent_s

    def leave(self, cost: float) -> None:
        """Give the place back; `cost`: of what was admitted."""
        self.held -= 1
        self._ahead = max(self._ahead - cost, 0.0) if self.held else 0.0

    def _refusal(self, reason: str) -> EditFailed:
        wait_s = max(math.ceil(round(self.wait_s, 3)), 1)
        error = Overloaded(f"{reason}; try again in {wait_s} s")
        return EditFailed(EditFailure.of("", error), retry_after_s=wait_s)
