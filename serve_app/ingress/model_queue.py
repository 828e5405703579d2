"""The edits that one model is to make, as far as this process sends them to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from serve_app.config import ServeConfig
from serve_app.ingress.backlog import Backlog
from serve_app.ingress.record import EditRecord


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds the edits of one model that this process holds."""

    max_in_flight: int
    min_in_flight: int  # so many may wait, however long
    max_wait_s: float

    @classmethod
    def of(cls, config: ServeConfig) -> Self:
        """Take the limits of a model's own configuration: two batches may always wait."""
        return cls(config.max_in_flight, 2 * config.engine.max_batch_size, config.longest_wait_s)


@dataclass(slots=True)
class Queue:
    """Holds the admitted edits of one model, and the rate at which it makes them."""

    limits: Limits
    rate: Backlog
    admitted: dict[int, EditRecord] = field(default_factory=dict)  # by identity

    @property
    def seconds(self) -> float:
        """Estimate in how many seconds the model has made what is admitted.

        Nothing outlives its deadline, so it is never longer than what is left of the last one. What
        could not be done by its own even alone gives way to all others, and nobody waits for it.
        """
        ahead = self.admitted.values()
        made_s = sum(
            min(self.rate.seconds(edit.cost), edit.left_s)
            for edit in ahead
            if not self.is_hopeless(edit)
        )
        return min(made_s, latest_s(ahead))

    def is_hopeless(self, edit: EditRecord) -> bool:
        """Tell whether an edit could not be done by its deadline even alone."""
        return self.rate.seconds(edit.cost) > edit.deadline_s


def latest_s(edits: Iterable[EditRecord]) -> float:
    """Find what is left of the last deadline; 0 of no edit."""
    return max((edit.left_s for edit in edits), default=0.0)
