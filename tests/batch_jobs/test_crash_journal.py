"""A row that kills its worker is found and convicted; nobody else is."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from batch_jobs.stages.crash_journal import FOLDER, BlockJournal, Gate, Journal
from engine.errors import WorkerCrashed
from storage.storage import Storage


def test_conviction_needs_two_deaths_alone(tmp_path: Path) -> None:
    storage, ids = Storage(str(tmp_path)), ["a", "b", "c"]

    def again() -> BlockJournal:
        return Journal(storage, "run").block(ids)

    again().open()
    assert again().suspected and again().convicted == set()
    again().open("b")
    assert again().convicted == set() and again().died_alone("b")
    survivor = again()
    survivor.open("a")
    survivor.survived()
    assert again().cleared == {"a"}
    again().open("b")
    assert again().convicted == {"b"}
    assert not Journal(storage, "run").block(["x", "y"]).suspected
    again().close()
    assert not again().suspected


def test_the_entries_of_a_block_come_and_go_together(tmp_path: Path) -> None:
    """A worker may be killed at any moment by another block, also while it closes this one."""
    storage = Storage(str(tmp_path))
    for id in (None, "a", "b"):
        Journal(storage, "run").block(["a", "b"]).open(id)
    assert len(storage.list(FOLDER)) == 1
    Journal(storage, "run").block(["a", "b"]).close()
    assert storage.list(FOLDER) == []


def test_five_convictions_of_a_block_without_a_survivor_blame_the_worker(tmp_path: Path) -> None:
    storage, ids = Storage(str(tmp_path)), ["a", "b", "c", "d", "e", "f"]
    for id in (None, *"aabbccddee"):
        Journal(storage, "run").block(ids).open(id)
    with pytest.raises(WorkerCrashed, match="died again and again"):
        Journal(storage, "run").block(ids).check()


def test_five_convictions_of_several_blocks_without_a_survivor_blame_the_worker(
    tmp_path: Path,
) -> None:
    storage = Storage(str(tmp_path))
    for id in (None, "a", "b", "c", "a", "b", "c"):
        Journal(storage, "run").block(["a", "b", "c"]).open(id)
    journal = Journal(storage, "run").block(["a", "b", "c"])
    assert journal.convicted == {"a", "b", "c"}
    journal.close()
    for id in ("d", "e"):
        journal = Journal(storage, "run").block([id])
        journal.open(id)
        journal.open(id)
        if id == "d":
            journal.close()
    with pytest.raises(WorkerCrashed, match="last on the rows e"):
        Journal(storage, "run").block(["e"]).check()


def test_a_row_that_is_convicted_again_blames_the_worker_no_more(tmp_path: Path) -> None:
    """A block of which nothing survived starts anew where its result was lost."""
    storage, ids = Storage(str(tmp_path)), ["a", "b", "c"]
    for _ in range(2):
        for id in (None, *"aabbcc"):
            Journal(storage, "run").block(ids).open(id)
        journal = Journal(storage, "run").block(ids)
        journal.check()
        journal.close()
    assert len(storage.list(FOLDER)) == 3


def test_a_run_believes_no_other_run(tmp_path: Path) -> None:
    """Workers of a run that was ended may still be dying when the next one has begun."""
    storage = Storage(str(tmp_path))
    for id in (None, *"aabbccddee"):
        Journal(storage, "before").block(list("abcde")).open(id)
    block = Journal(storage, "now").block(list("abcde"))
    block.check()
    assert not block.suspected and not block.convicted


def test_a_survivor_clears_the_worker(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    for _ in range(2):
        Journal(storage, "run").block(["a"]).open("a")
    Journal(storage, "run").block(["a"]).close()
    assert len(storage.list(FOLDER)) == 1
    good = Journal(storage, "run").block(["b", "c"])
    good.open()
    good.close()
    assert storage.list(FOLDER) == []


def test_a_suspected_row_has_the_worker_to_itself() -> None:
    gate, order = Gate(), []
    inside = threading.Event()

    def investigate() -> None:
        inside.wait(10)
        with gate.alone():
            order.append("alone")

    suspect = threading.Thread(target=investigate)
    suspect.start()
    with gate.together(), gate.together():
        inside.set()
        time.sleep(0.2)
        order.append("together")
    suspect.join()
    assert order == ["together", "alone"]
