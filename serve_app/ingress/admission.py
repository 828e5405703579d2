"""The decision whether an edit may join, and when one that may not should try again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from engine.errors import DeadlineExceeded, ImageError, Overloaded
from engine.guidance import branches
from engine.options import ResolvedOptions
from engine.spec import ModelSpec
from serve_app.ingress.backlog import Backlog
from serve_app.ingress.record import EditRecord

# Called with an edit that entered, was admitted or left, the edits that are in flight now, and how
# long they will take in s.
Observe = Callable[[EditRecord, int, float], None]


def cost_of(options: ResolvedOptions, spec: ModelSpec) -> float:
    """Estimate the work of an edit: steps x pixels x images x branches.

    Without a size the canvas has about the model's own pixels.
    """
    width, height = options.size_px or (spec.resolution, spec.resolution)
    count = options.num_images * len(branches(spec.guidance, options))
    return float(options.num_inference_steps * width * height * count)


class Admission:
    """Admits edits to this process, or refuses them with the time to come back.

    It counts those in flight, and estimates how long their work takes: for the model in the unit of
    `cost_of`, for the processes that decode and encode in edits. It refuses the edit after
    `max_in_flight`; with `min_in_flight` of them there, what would wait longer than `max_wait_s`
    for its turn; and, unless it is alone, what would not be done within `deadline_s`. `clock` gives
    seconds.
    """

    def __init__(
        self,
        max_in_flight: int,
        min_in_flight: int,
        max_wait_s: float,
        deadline_s: float,
        observe: Observe = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_in_flight, self._min_in_flight = max_in_flight, min_in_flight
        self._max_wait_s, self._deadline_s = max_wait_s, deadline_s
        self._observe = observe
        self._model, self._codec = Backlog(clock), Backlog(clock)
        self._admitted: dict[int, EditRecord] = {}  # by identity
        self.in_flight = 0

    @property
    def wait_s(self) -> float:
        """Estimate in how many seconds what is in flight is done; 0 until an edit was made.

        Nothing outlives its deadline, so it is never longer than what is left of the last one. What
        could not be done by its own even alone gives way to all others, and nobody waits for it.
        """
        ahead = self._admitted.values()
        model_s = sum(
            min(self._model.seconds(edit.cost), edit.left_s)
            for edit in ahead
            if not self._is_hopeless(edit)
        )
        latest_s = max((edit.left_s for edit in ahead), default=0.0)
        return min(max(model_s, self._codec.seconds(len(ahead))), latest_s)

    def enter(self, record: EditRecord, *, body_is_small: bool = False) -> None:
        """Take a place, before the body is read. Raises `Overloaded` when there is none, or when
        whatever came now would wait too long; a small body is read first, so that what is wrong
        with it is said."""
        if self.in_flight >= self._max_in_flight:
            raise self._refusal(f"{self.in_flight} edits are in flight already")
        if not body_is_small:
            self._refuse_a_long_wait(self.in_flight)
        self.in_flight += 1
        record.has_place = True
        self._observe(record, self.in_flight, self.wait_s)

    def admit(self, record: EditRecord, cost: float) -> None:
        """Queue the work of an edit that has a place, before its source is decoded. Raises
        `Overloaded` where it would wait too long."""
        self._refuse_a_long_wait(self.in_flight - 1)  # others came in while the body was read
        total_s = self.wait_s + self._model.seconds(cost)
        if self._admitted and total_s > self._deadline_s:
            raise self._refusal(
                f"with what is queued ahead the edit would take about {total_s:.0f} s, more than "
                f"the {self._deadline_s:g} s it may; ask for fewer steps or images"
            )
        record.cost, record.had_company = cost, bool(self._admitted)
        for other in self._admitted.values():
            other.had_company = True
        self._admitted[id(record)] = record
        self._observe(record, self.in_flight, self.wait_s)

    def edited(self, record: EditRecord) -> None:
        """Learn the model's rate from an edit that it has made, in `record.model_s`."""
        self._model.done(record.cost, record.model_s)

    def leave(self, record: EditRecord, error: BaseException | None = None) -> None:
        """End an edit with its answer, or with `error`, and give back the place that it has.

        One that was late though it had the machine to itself would be late again: its error is not
        one to retry.
        """
        if record.decode_s and (error is None or isinstance(error, ImageError)):
            self._codec.done(1, record.decode_s + record.encode_s)
        was_admitted = self._admitted.pop(id(record), None) is not None
        if isinstance(error, DeadlineExceeded) and was_admitted:
            error.retryable = record.had_company and not self._is_hopeless(record)
        if record.has_place:
            self.in_flight -= 1
        record.end(error)
        self._observe(record, self.in_flight, self.wait_s)

    def _is_hopeless(self, edit: EditRecord) -> bool:
        return self._model.seconds(edit.cost) > edit.deadline_s

    def _refuse_a_long_wait(self, in_flight: int) -> None:
        if in_flight >= self._min_in_flight and self.wait_s > self._max_wait_s:
            raise self._refusal(f"about {self.wait_s:.0f} s of work are queued ahead")

    def _refusal(self, reason: str) -> Overloaded:
        guess_s = self.wait_s if self._model.has_rate else self._deadline_s
        wait_s = max(math.ceil(round(guess_s, 3)), 1)
        return Overloaded(f"{reason}; try again in {wait_s} s", retry_after_s=wait_s)
