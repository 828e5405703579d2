"""Sees to it that every batch that is not over has its job: the oldest first, so many at a time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from storage.batch_store import BatchStore, open_batches
from storage.storage import Storage

logger = logging.getLogger("ray.serve")

LOOK_EVERY_S = 2.0
PAUSE_S, MAX_PAUSE_S = 5.0, 60.0  # before a job that has ended early is started again


class Jobs(Protocol):
    """Runs the jobs of batches. One that is started twice is done once: it takes a lease."""

    def runs(self, owner: str, id: str) -> bool:
        """Tell whether the job that was started for a batch has not ended."""

    def start(self, owner: str, id: str) -> None:
        """Start the job of a batch."""

    def close(self) -> None:
        """End what ends with the server."""


class BatchKeeper:
    """Starts what does not run: `at_once` batches, and others that were cancelled or have expired,
    whose jobs have only their end to write. What runs is known by its storage and its jobs alone,
    so it does not matter who started it. `clock` gives unix time in seconds."""

    def __init__(
        self,
        storage: Storage,
        jobs: Jobs,
        at_once: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._storage, self._jobs, self._at_once, self._clock = storage, jobs, at_once, clock
        self._pauses: dict[str, tuple[float, float]] = {}  # id -> not before, and the next pause
        self._known: set[str] = set()  # ids of batches that are there
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="batches", daemon=True)

    def start(self) -> None:
        """Look every `LOOK_EVERY_S` seconds, in a thread of its own, until `close`."""
        self._thread.start()

    def close(self) -> None:
        """Look no more, and end what ends with the server."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()
        self._jobs.close()

    def look(self) -> None:
        """Start what should run and does not; raises what storage and `Jobs` raise."""
        found = [batch for batch in open_batches(self._storage) if self._is_there(*batch)]
        self._pauses = {id: self._pauses[id] for _, id in found if id in self._pauses}
        for place, (owner, id) in enumerate(found):
            if place < self._at_once or self._is_to_end(owner, id):
                self._ensure(owner, id)

    def _is_there(self, owner: str, id: str) -> bool:
        """Tell a batch from what is left of one whose server died before all of it was there."""
        if id not in self._known and BatchStore(self._storage, owner).order(id) is not None:
            self._known.add(id)
        return id in self._known

    def _is_to_end(self, owner: str, id: str) -> bool:
        batches = BatchStore(self._storage, owner)
        if batches.cancelling_at(id) is not None:
            return True
        order = batches.order(id)
        return order is not None and self._clock() >= order.expires_at

    def _ensure(self, owner: str, id: str) -> None:
        now = self._clock()
        not_before, pause_s = self._pauses.get(id, (now, PAUSE_S))
        if now < not_before or self._jobs.runs(owner, id):
            return
        self._pauses[id] = now + pause_s, min(2 * pause_s, MAX_PAUSE_S)
        self._jobs.start(owner, id)

    def _look_on(self) -> None:
        while not self._closed.wait(LOOK_EVERY_S):
            try:
                self.look()
            except Exception as error:  # storage and clusters fail in dozens of ways, and come back
                logger.warning("the jobs of batches cannot be looked after: %s", error)
