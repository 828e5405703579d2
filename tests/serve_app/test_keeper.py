"""Whose job runs when: the oldest batches, what is to end, and again what ended early."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from serve_app.batches.keeper import MAX_PAUSE_S, PAUSE_S, BatchKeeper
from storage.batch_store import BatchOrder, BatchStore
from storage.storage import Storage


class Clock:
    now_s = 1_764_385_200.0

    def __call__(self) -> float:
        return self.now_s


class Noted:
    """Jobs that run until they are ended here."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.running: set[str] = set()

    def runs(self, owner: str, id: str) -> bool:
        return id in self.running

    def start(self, owner: str, id: str) -> None:
        self.started.append(id)
        self.running.add(id)

    def close(self) -> None:
        self.running.clear()


@pytest.fixture
def batches(tmp_path: Path) -> BatchStore:
    return BatchStore(Storage(str(tmp_path)), "ann", Clock())


def ordered(batches: BatchStore) -> str:
    clock = batches.clock
    assert isinstance(clock, Clock)
    clock.now_s += 1
    now, id = int(clock()), batches.new_id()
    endpoint = "/v1/images/edits"
    batches.create(BatchOrder(id, "file-1", endpoint, "24h", now, now + 86_400, "pocket", {}, {}))
    return id


def test_the_oldest_run_first_and_the_next_when_one_is_over(batches: BatchStore) -> None:
    jobs = Noted()
    keeper = BatchKeeper(batches.storage, jobs, at_once=2, clock=batches.clock)
    first, second, third = (ordered(batches) for _ in range(3))
    for _ in range(2):
        keeper.look()
    assert jobs.started == [first, second]
    batches.close(first)
    keeper.look()
    assert jobs.started == [first, second, third]


def test_what_is_left_of_one_that_was_never_whole_takes_no_turn(batches: BatchStore) -> None:
    jobs = Noted()
    keeper = BatchKeeper(batches.storage, jobs, at_once=1, clock=batches.clock)
    broken, whole = ordered(batches), ordered(batches)
    batches.folder(broken).remove("order.json")
    keeper.look()
    assert jobs.started == [whole]


def test_one_that_is_to_end_does_not_wait_for_its_turn(batches: BatchStore) -> None:
    jobs, clock = Noted(), batches.clock
    keeper = BatchKeeper(batches.storage, jobs, at_once=1, clock=clock)
    first, second, third = (ordered(batches) for _ in range(3))
    batches.cancel(third)
    keeper.look()
    assert jobs.started == [first, third]
    assert isinstance(clock, Clock)
    clock.now_s += 86_400
    keeper.look()
    assert jobs.started == [first, third, second]


def test_a_job_that_ended_early_is_started_again_after_longer_and_longer_pauses(
    batches: BatchStore,
) -> None:
    jobs, clock = Noted(), batches.clock
    assert isinstance(clock, Clock)
    keeper = BatchKeeper(batches.storage, jobs, at_once=1, clock=clock)
    ordered(batches)
    pauses = []
    for _ in range(200):
        keeper.look()
        if jobs.running:
            pauses.append(clock.now_s)
            jobs.running.clear()
        clock.now_s += 1
    gaps = [later - before for before, later in pairwise(pauses)]
    assert gaps[:3] == [PAUSE_S, 2 * PAUSE_S, 4 * PAUSE_S] and max(gaps) == MAX_PAUSE_S
