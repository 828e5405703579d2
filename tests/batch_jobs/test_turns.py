"""Chains in a job: each turn edits what the one before it published, whatever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import rayedit as python
from batch_jobs.export.delivery import deliver
from batch_jobs.export.file import export_ledger
from batch_jobs.ledger.entry import Entry, to_ledger
from batch_jobs.ledger.layout import published_path
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.remaining import KNOWN_COLUMNS, Remaining
from batch_jobs.ledger.turns import FailedTurn
from batch_jobs.stages.turns import turn_by_turn
from batch_jobs.stopping import Exit
from engine.errors import PreviousTurnFailed
from engine.images import encode
from engine.options import EditOptions
from storage.storage import Storage
from tests.batch_jobs.editors import dry
from tests.batch_jobs.jobs import CONFIG, job_here, ledger, left, run_here, run_job
from tests.batch_jobs.shapes import write_lines
from tests.batch_jobs.test_job import after_the_first_block
from tests.cli.test_cli import rayedit
from tests.conftest import PHOTOGRAPHS
from tests.serving import eventually

Write = Callable[..., str]
STOPPED = PreviousTurnFailed.code
SAID = ("make it night", "add fog", "make it blue")
FEW = {"num_inference_steps": 2, "guidance_scale": 5.0}


def chains(count: int, turns: int = 3) -> list[dict[str, Any]]:
    """So many chains, the last turns first, and a row of no chain."""
    rows = [
        {
            "id": f"{chain}-{turn}",
            "chain_id": f"c{chain}",
            "turn": turn,
            "image": f"{PHOTOGRAPHS[chain % 4]}.jpg" if turn == 1 else None,
            "instruction": SAID[turn % 3],
            **FEW,
        }
        for turn in range(turns, 0, -1)
        for chain in range(count)
    ]
    return [*rows, {"id": "alone", "image": "coffee.jpg", "instruction": SAID[0], **FEW}]


def check_chains(output: Path, turns: int = 3) -> dict[str, dict[str, Any]]:
    """Every later turn was made from the picture that the ledger has of the turn before."""
    rows = ledger(output)
    for row in rows.values():
        if row["turn"] is not None and row["turn"] > 1 and row["status"] == "ok":
            before = rows[f"{row['id'].split('-')[0]}-{row['turn'] - 1}"]["outputs"][0]
            assert row["source"] == f"{output}/{published_path(before['uri'])}"
            assert row["source_sha256"] == before["sha256"]
    return rows


def test_chains_go_side_by_side_each_turn_on_the_one_before(
    manifest: Write, tmp_path: Path
) -> None:
    seeded = CONFIG.engine.model_copy(update={"determinism": "seeded"})
    config = CONFIG.model_copy(update={"engine": seeded})
    assert run_here(manifest(chains(6)), tmp_path / "out", config) == Exit.OK
    rows = check_chains(tmp_path / "out")
    assert len(rows) == 19 and {row["status"] for row in rows.values()} == {"ok"}
    assert len({row["outputs"][0]["sha256"] for row in rows.values()}) > 1
    assert max(row["batch_size"] for row in rows.values()) > 1
    assert (rows["alone"]["turn"], rows["0-2"]["chain_id"], rows["0-2"]["turn"]) == (None, "c0", 2)


def test_a_later_turn_is_the_edit_of_the_published_file(manifest: Write, tmp_path: Path) -> None:
    rows = chains(1, turns=2)
    config = CONFIG.model_copy(update={"output_format": "jpeg"})
    spec = config.engine.find_model()
    assert run_here(manifest(rows), tmp_path / "out", config, spec) == Exit.OK
    done = check_chains(tmp_path / "out")
    first, second = done["0-1"], done["0-2"]
    settings = {"resolution": 64, "determinism": "strict"}
    with python.Editor("pocket", **settings) as editor:
        asked = {n: second[n] for n in EditOptions.model_fields if second[n] is not None}
        asked.pop("num_images")
        again = editor.edit(first["outputs"][0]["uri"], second["instruction"], **asked)
        other = editor.edit(tmp_path / "astronaut.jpg", second["instruction"], **asked)
    published = Path(second["outputs"][0]["uri"]).read_bytes()
    assert encode(again, "jpeg", None) == published != encode(other, "jpeg", None)


@pytest.mark.slow
def test_chains_over_ray(cluster: None, manifest: Write, tmp_path: Path) -> None:
    spec = dry(CONFIG.engine.find_model())
    rows = chains(6)
    rows[7]["instruction"] = " "  # 1-2
    assert run_job(manifest(rows), tmp_path / "out", spec=spec) == Exit.FAILED_ROWS
    done = check_chains(tmp_path / "out")
    errors = {id: row["error_code"] for id, row in done.items() if row["status"] == "error"}
    assert len(done) == 19 and errors == {"1-2": "instruction_empty", "1-3": STOPPED}


def test_turns_after_one_that_failed_say_which_and_a_retry_edits_them(
    manifest: Write, tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    rows, output = chains(3, turns=4), tmp_path / "out"
    for row in rows:
        if row["id"] == "1-1":
            row["image"] = "late.jpg"
        if row["id"] == "2-2":
            row["instruction"] = " "
    path = manifest(rows)
    assert run_here(path, output) == Exit.FAILED_ROWS
    before = check_chains(output)
    codes = {id: row["error_code"] for id, row in before.items() if row["status"] == "error"}
    assert codes == {
        "1-1": "image_not_found",
        **dict.fromkeys(("1-2", "1-3", "1-4"), STOPPED),
        "2-2": "instruction_empty",
        **dict.fromkeys(("2-3", "2-4"), STOPPED),
    }
    message = "turn 1 of this chain, row 1-1, failed (image_not_found): mend that, then --retry"
    assert before["1-4"]["error_message"].startswith(message)
    assert (before["1-4"]["source"], before["1-4"]["outputs"]) == (None, [])
    assert run_here(path, output) == Exit.FAILED_ROWS
    assert check_chains(output) == before

    (tmp_path / "late.jpg").write_bytes(photographs["coffee"])
    (tmp_path / "one.csv").write_text("id\n1-1\n")
    for retry in ("image_not_found", str(tmp_path / "one.csv")):
        copy = tmp_path / f"out-{len(retry)}"
        subprocess.run(["cp", "-r", output, copy], check=True)
        config = CONFIG.model_copy(update={"retry": retry})
        assert run_here(path, copy, config) == Exit.FAILED_ROWS
        after = check_chains(copy)
        redone = {id for id in after if after[id]["finished_at"] != before[id]["finished_at"]}
        assert redone == {"1-1", "1-2", "1-3", "1-4"}
        assert {after[id]["status"] for id in redone} == {"ok"}
        assert after["1-3"]["attempts"] == 2


def test_a_turn_that_changes_is_edited_again_with_those_after_it(
    manifest: Write, tmp_path: Path
) -> None:
    rows, output = chains(2), tmp_path / "out"
    assert run_here(manifest(rows), output) == Exit.OK
    before = check_chains(output)
    for row in rows:
        if row["id"] == "1-2":
            row["instruction"] = "sepia"
    assert run_here(manifest(rows), output) == Exit.OK
    after = check_chains(output)
    assert {id for id in after if after[id] != before[id]} == {"1-2", "1-3"}
    for id in ("1-2", "1-3"):  # no committed picture is written over
        assert after[id]["outputs"][0]["uri"] != before[id]["outputs"][0]["uri"]


def test_a_turn_that_changed_before_a_stop_is_followed_by_those_after_it(
    manifest: Write, tmp_path: Path
) -> None:
    rows, output = chains(1, turns=4), tmp_path / "out"
    assert run_here(manifest(rows), output) == Exit.OK
    before = check_chains(output)
    rows[2]["instruction"] = "sepia"  # 0-2
    job = job_here(manifest(rows), output)
    asked = after_the_first_block(job, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert asked.run() == Exit.TERMINATED
    stopped = ledger(output)  # after the block in hand, which was that of the next turn
    assert {id for id in stopped if stopped[id] != before[id]} == {"0-2", "0-3"}
    assert left(job).todo["id"].to_pylist() == ["0-4"]
    assert job.run() == Exit.OK
    check_chains(output)


def test_a_job_that_is_stopped_goes_on_at_the_turn_where_it_was(
    manifest: Write, tmp_path: Path
) -> None:
    rows = chains(5)
    rows[13]["image"] = "none.jpg"  # 3-1
    job = job_here(manifest(rows), tmp_path / "out")
    asked = after_the_first_block(job, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert asked.run() == Exit.TERMINATED
    done = ledger(tmp_path / "out")
    assert {row["turn"] for row in done.values()} <= {1, None} and "3-1" in done
    assert job.run() == Exit.FAILED_ROWS
    resumed = check_chains(tmp_path / "out")
    assert len(resumed) == 16 and (resumed["3-2"]["error_code"], resumed["3-3"]["error_code"]) == (
        STOPPED,
        STOPPED,
    )
    assert all(resumed[id]["finished_at"] == row["finished_at"] for id, row in done.items())


@pytest.mark.chaos
def test_a_job_that_is_killed_goes_on_at_the_turn_where_it_was(
    manifest: Write, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    config = tmp_path / "job.yaml"
    settings = "engine: {resolution: 64, num_threads: 1}\nrows_per_block: 2\nrows_per_commit: 2\n"
    config.write_text(settings)
    command = ["batch", manifest(chains(6)), str(output), f"--config={config}"]
    first = subprocess.Popen(
        [sys.executable, "-m", "cli.main", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def second_turns() -> bool:
        return output.exists() and any(row["turn"] == 2 for row in ledger(output).values())

    try:
        assert eventually(second_turns, 300)
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    done = ledger(output)
    assert 7 <= len(done) < 19
    again = rayedit(*command)
    assert again.returncode == 0, again.stderr
    resumed = check_chains(output)
    assert len(resumed) == 19
    assert all(resumed[id]["finished_at"] == row["finished_at"] for id, row in done.items())


def test_the_table_of_later_turns_is_true(tmp_path: Path) -> None:
    """Of chain a turn 1 is edited again, of b it has been mended, of c it is an error still."""
    book = Ledger(Storage(str(tmp_path)))
    stopped = {"status": "error", "error_code": STOPPED}
    missing = {"status": "error", "error_code": "image_not_found"}
    known = [
        *(Entry(id, fingerprint="f") for id in ("a1", "a1", "a2", "b1")),
        *(Entry(id, fingerprint="f", **stopped) for id in ("b2", "b3", "c2", "c3")),
        Entry("c1", fingerprint="f", **missing),
    ]
    book.append(to_ledger(known))
    ids = ["a1", "a2", "b1", "b2", "b3", "c1", "c2", "c3", "c4"]
    plan = pa.table(
        {
            "id": ids,
            "fingerprint": ["f"] * len(ids),
            "chain_id": [id[0] for id in ids],
            "turn": [int(id[1]) for id in ids],
        }
    )
    found = Remaining.of(plan, book.read(KNOWN_COLUMNS, placed=True), CONFIG, datetime.now(UTC))
    assert sorted(found.todo["id"].to_pylist()) == ["a1", "a2", "b2", "b3", "c4"]
    assert {chain: (at.id, at.turn, at.code) for chain, at in found.failed.items()} == {
        "c": ("c1", 1, "image_not_found")
    }


def test_what_is_left_of_a_chain_that_has_failed_is_not_edited(
    manifest: Write, tmp_path: Path
) -> None:
    job = job_here(manifest(chains(2)), tmp_path / "out")
    run = job.block_run(left(job))
    rows = run.todo.filter(pc.greater(run.todo["turn"], 1))
    run = replace(run, todo=rows, failed={"c1": FailedTurn("1-1", 1, "image_too_large")})
    asked: list[str] = []

    def edit(given: Any) -> Iterator[pa.Table]:
        asked.extend(given.todo["id"].to_pylist())
        yield to_ledger(Entry(id, chain_id="c0", turn=2) for id in given.todo["id"].to_pylist())

    entries = pa.concat_tables(turn_by_turn(run, edit))
    assert asked == ["0-2", "0-3"]
    stopped = entries.filter(pc.is_valid(entries["error_code"]))
    assert stopped["id"].to_pylist() == ["1-2", "1-3"]
    assert "turn 1 of this chain, row 1-1, failed (image_too_large)" in (
        stopped["error_message"][1].as_py()
    )


def test_a_fence_around_the_photographs_is_none_around_the_output(
    manifest: Write, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    rows = chains(1)
    path = manifest(rows)
    os.link(tmp_path / "astronaut.jpg", tmp_path / "photos" / "astronaut.jpg")
    rows[2]["image"] = "photos/astronaut.jpg"
    config = CONFIG.model_copy(update={"image_root": str(tmp_path / "photos")})
    assert run_here(manifest(rows[:3]), tmp_path / "out", config) == Exit.OK
    assert path and len(check_chains(tmp_path / "out")) == 3


def test_chains_go_out_in_every_shape_from_where_the_output_is_now(
    manifest: Write, tmp_path: Path
) -> None:
    assert run_here(manifest(chains(1, turns=2)), tmp_path / "out") == Exit.OK
    (tmp_path / "out").rename(tmp_path / "moved")
    storage = Storage(str(tmp_path / "moved"))
    rows = {
        row["idx"]: row
        for row in pq.read_table(export_ledger(storage, "triplets").dest).to_pylist()
    }
    assert rows["0-2"]["source_image"]["bytes"] == rows["0-1"]["edited_image"]["bytes"]
    assert [(rows[id]["chain_id"], rows[id]["turn"]) for id in ("0-1", "0-2")] == [
        ("c0", 1),
        ("c0", 2),
    ]
    table = Path(export_ledger(storage, "csv").dest).read_text().splitlines()
    assert ",chain_id,turn," in table[0] and f"0-2,{tmp_path}/moved/images/" in table[2]
    deliver(storage, str(tmp_path / "delivered"))
    names = sorted(path.name for path in (tmp_path / "delivered").iterdir())
    assert names == ["astronaut - add fog.png", "astronaut - make it blue.png", "coffee.png"]


def test_dataflow_lines_may_be_turns_too(tmp_path: Path, photographs: dict[str, bytes]) -> None:
    (tmp_path / "a.jpg").write_bytes(photographs["coffee"])
    said = {"conversations": [{"role": "user", "content": "add fog"}]}
    lines = [
        {"images": "a.jpg", **said, "id": "0-1", "chain_id": 1, "turn": 1},
        {**said, "id": "0-2", "chain_id": 1, "turn": 2},
    ]
    path = write_lines(tmp_path / "m.jsonl", lines)
    assert run_here(path, tmp_path / "out") == Exit.OK
    assert check_chains(tmp_path / "out")["0-2"]["chain_id"] == "1"
