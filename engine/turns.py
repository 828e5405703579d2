"""Whose turn it is: the lane of the next step, and which of its requests take part in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine.lane import Lane
from engine.samples import LiveRequest


class Turns:
    """Serves requests by when they came and by how much is left to do of them.

    One goes before another that came earlier if it would still be done first, were each alone from
    when it came: an edit of one step does not wait for a hundred steps of another, equal edits are
    served as they come, and none that comes after a request has waited for as long as it takes
    itself goes before it.
    """

    def __init__(self) -> None:
        self._work = self._took_s = 0.0

    def count(self, work: float, took_s: float) -> None:
        """Learn how long work takes, in the unit of `LiveRequest.work_left`."""
        self._work += work
        self._took_s += took_s

    def next(self, lives: Sequence[LiveRequest], room: Callable[[Lane], int]) -> list[LiveRequest]:
        """Choose one or more requests of one lane for the next step, the first of them first.

        `room`: how many samples of a lane may run together.
        """
        ordered = sorted(lives, key=self._due)
        lane = ordered[0].lane
        left, chosen = room(lane), []
        for live in ordered:
            if live.lane == lane and left > 0:
                chosen.append(live)
                left -= live.images_left
        return chosen

    def _due(self, live: LiveRequest) -> tuple[float, int]:
        """When it would be done if it were alone, with as long as anybody may wait added to it."""
        seconds = live.work_left * self._took_s / self._work if self._work else 0.0
        return live.latest + seconds, live.order
