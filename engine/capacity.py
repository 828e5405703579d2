"""How many samples of a lane may run together: never so many that the memory ends."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from engine.calibration import Calibration
from engine.lane import Lane
from engine.memory import Memory

logger = logging.getLogger(__name__)

SPARE = 0.2  # the share of a device's memory that stays free


class Capacity:
    """Bounds batches by `max_batch_size`, by a calibration, and by what was seen to fit.

    With a `memory` and no calibration a lane starts at one sample and doubles; with a `memory` the
    free bytes are looked at each time, so a neighbour on the device makes batches smaller.
    """

    def __init__(
        self,
        max_batch_size: int,
        calibration: Calibration | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.max_batch_size = max_batch_size
        self._calibration = calibration
        self._memory = memory
        self._shrunk: dict[Lane, int] = {}
        self._seen: dict[Lane, int] = {}  # the most samples that were measured together
        self._sample_bytes: dict[Lane, int] = {}
        self._reserved_bytes = 0  # of captured graphs

    def samples(self, lane: Lane) -> int:
        """Return how many samples of the lane may run together now; at least 1."""
        lane = lane.shape
        bounds = [self.max_batch_size, self._shrunk.get(lane, self.max_batch_size)]
        if self._calibration is not None:
            size = self._calibration.size(lane.width_px, lane.height_px)
            bounds.append(size.samples)
        elif self._memory is not None:
            bounds.append(2 * self._seen.get(lane, 0))
        if self._memory is not None and self._bytes_of(lane):
            spare = int(SPARE * self._memory.total_bytes)
            available = self._memory.available_bytes() - self._reserved_bytes
            bounds.append((available - spare) // self._bytes_of(lane))
        return max(min(bounds), 1)

    def reserve(self, size_bytes: int) -> None:
        """Count so many bytes as taken for good, though the device calls them available."""
        self._reserved_bytes += size_bytes

    def shrink(self, lane: Lane, size: int) -> None:
        """Remember that more than `size` samples of this lane did not fit."""
        lane = lane.shape
        self._shrunk[lane] = max(min(size, self._shrunk.get(lane, size)), 1)
        logger.warning("out of memory: at most %d samples of %s a call", self._shrunk[lane], lane)

    @contextmanager
    def measured(self, lane: Lane, samples: int) -> Iterator[None]:
        """Learn what the step in the block takes, when it is of more samples than any before."""
        lane = lane.shape
        if self._memory is None or samples <= self._seen.get(lane, 0):
            yield
            return
        self._memory.start()
        yield
        self._sample_bytes[lane] = self._memory.peak_bytes() // samples
        self._seen[lane] = samples

    def _bytes_of(self, lane: Lane) -> int:
        known = self._sample_bytes.get(lane, 0)
        if self._calibration is None:
            return known
        return max(known, self._calibration.size(lane.width_px, lane.height_px).sample_bytes)
