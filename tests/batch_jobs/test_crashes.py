"""A row that kills its worker is found and convicted; nobody else is, and nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from batch_jobs.job import FAILED_ROWS, OK, STOPPED
from batch_jobs.stages.crash_journal import FOLDER, BlockJournal, Gate, Journal
from batch_jobs.storage.storage import Storage
from engine.errors import WorkerCrashed
from engine.registry import ModelSpec
from tests.batch_jobs.conftest import CONFIG, run_job
from tests.batch_jobs.fragile import FATAL, fragile
from tests.batch_jobs.test_job import digests, good_rows, ledger
from tests.editors import faulty
from tests.serving import ROOT

Write = Callable[..., str]


@pytest.mark.parametrize(
    ("count", "fatal"),
    [(20, (6, 7)), pytest.param(200, (6, 7, 150), marks=pytest.mark.chaos)],
)
def test_a_row_that_kills_its_worker_is_convicted_and_its_neighbours_succeed(
    cluster: None,
    manifest: Write,
    tmp_path: Path,
    pocket: ModelSpec,
    count: int,
    fatal: tuple[int, ...],
) -> None:
    rows = good_rows(count)
    for place in fatal:
        rows[place]["instruction"] = "exit in encode"
    path, output = manifest(rows), tmp_path / "out"
    assert run_job(path, output, spec=faulty(pocket)) == FAILED_ROWS
    results = ledger(output)
    assert len(results) == count
    codes = {id: row["error_code"] for id, row in results.items() if row["status"] == "error"}
    assert codes == {f"row-{place}": "worker_crashed" for place in fatal}
    assert Storage(str(output)).list(FOLDER) == []
    good = [row for i, row in enumerate(rows) if i not in fatal]
    assert run_job(manifest(good, "good.parquet"), tmp_path / "good") == OK
    for id, row in ledger(tmp_path / "good").items():
        assert digests(results[id]) == digests(row)


@pytest.mark.chaos
def test_a_worker_that_never_survives_stops_the_job_and_a_mended_one_finishes_it(
    cluster: None,
    manifest: Write,
    tmp_path: Path,
    pocket: ModelSpec,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = good_rows(20)
    for row in rows[CONFIG.rows_per_block :]:
        row["instruction"] = "exit in encode"
    path, output = manifest(rows), tmp_path / "out"
    assert run_job(path, output, spec=faulty(pocket)) == STOPPED
    assert "the worker died again and again" in caplog.text
    done = ledger(output)
    assert {row["status"] for row in done.values()} <= {"ok"}
    assert run_job(path, output, spec=pocket) == OK
    results = ledger(output)
    assert len(results) == 20
    assert all(results[id]["finished_at"] == row["finished_at"] for id, row in done.items())


def test_an_image_that_kills_its_decoder_costs_its_own_row_alone(
    cluster: None, manifest: Write, tmp_path: Path, pocket: ModelSpec
) -> None:
    rows = good_rows(12)
    for place in (1, 2):
        rows[place]["size"] = FATAL
    output = tmp_path / "out"
    assert run_job(manifest(rows), output, spec=fragile(pocket)) == FAILED_ROWS
    codes = {id: row["error_code"] for id, row in ledger(output).items()}
    crashed = {id for id, code in codes.items() if code == "worker_crashed"}
    assert crashed == {"row-1", "row-2"}
    assert [id for id, code in codes.items() if code is not None and id not in crashed] == []
    assert Storage(str(output)).list(FOLDER) == []


def test_a_worker_that_is_killed_convicts_nobody(
    cluster: None, manifest: Write, tmp_path: Path
) -> None:
    path, output = manifest(good_rows(40)), tmp_path / "out"
    killed: list[int] = []

    def kill_a_worker() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not killed:
            time.sleep(0.1)
            if list(output.glob("results/*.parquet")):
                for process in psutil.Process().children(recursive=True):
                    if "EditWorker" in " ".join(process.cmdline()):
                        process.kill()
                        killed.append(process.pid)

    killer = threading.Thread(target=kill_a_worker)
    killer.start()
    config = CONFIG.model_copy(update={"rows_per_commit": 5})
    assert run_job(path, output, config) == OK
    killer.join()
    assert killed
    assert len(ledger(output)) == 40
    assert all(row["status"] == "ok" for row in ledger(output).values())


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


def repeated(folder: Path, blocks: list[list[str]]) -> list[dict[str, object]]:
    command = [sys.executable, "-m", "tests.batch_jobs.repeated", str(folder), json.dumps(blocks)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_rows_that_kill_their_worker_only_together_are_edited_alone(tmp_path: Path) -> None:
    """Also after one of them was killed alone: those that survived do not meet again."""
    pair = ["exit beside others in encode"] * 2
    both, three = repeated(tmp_path, [pair, [*pair, "exit in encode"]])
    assert both == {"deaths": 1, "codes": [None, None]}
    assert three == {"deaths": 3, "codes": [None, None, "worker_crashed"]}


def test_a_worker_whose_model_has_ended_stops_the_job_and_fails_no_row(tmp_path: Path) -> None:
    (ended,) = repeated(tmp_path, [["add fog", "end the thread in encode"]])
    assert ended == {"deaths": 0, "codes": "the model's thread has ended: see the worker's log"}


def test_rows_that_kill_their_worker_are_convicted_one_after_the_other(tmp_path: Path) -> None:
    """However many of a block; the one of a block of its own was not alone: another may run."""
    blocks = [["exit in encode"] * 4 + ["add fog"], ["exit in encode"]]
    four, one = repeated(tmp_path, blocks)
    assert four == {"deaths": 9, "codes": ["worker_crashed"] * 4 + [None]}
    assert one == {"deaths": 3, "codes": ["worker_crashed"]}


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
