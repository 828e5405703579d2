"""The stages over a real Ray: rows fail alone, workers die, and nothing is lost."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import ray.data

from batch_jobs.job import Job
from batch_jobs.ledger.entry import Entry, to_ledger
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.stages.crash_journal import FOLDER
from batch_jobs.stages.pipeline import build_dataset
from batch_jobs.stopping import Exit
from engine.spec import ModelSpec
from storage.storage import Storage
from tests.batch_jobs.editors import dry
from tests.batch_jobs.fragile import FATAL, fragile
from tests.batch_jobs.jobs import CONFIG, digests, good_rows, ledger, left, run_job
from tests.editors import faulty

Write = Callable[..., str]


@pytest.mark.slow
def test_bad_rows_become_error_rows_and_do_not_change_their_neighbours(
    cluster: None, manifest: Write, tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "cut.jpg").write_bytes(photographs["coffee"][:9000])
    base = {"num_inference_steps": 2, "guidance_scale": 5.0}
    bad = {
        "image_unsupported": {"image": "text.jpg", "instruction": "make it night"},
        "image_not_found": {"image": "none.jpg", "instruction": "make it night"},
        "image_truncated": {"image": "cut.jpg", "instruction": "make it night"},
        "instruction_empty": {"image": "coffee.jpg", "instruction": " "},
        "option_invalid": {
            "image": "coffee.jpg",
            "instruction": "make it night",
            "guidance_scale": float("nan"),
        },
        "instruction_too_long": {"image": "coffee.jpg", "instruction": "very long " * 200},
    }
    good = good_rows(16)
    mixed = list(good)
    for place, (code, row) in enumerate(bad.items()):
        mixed.insert(place * 3, {**base, **row, "id": code})

    assert run_job(manifest(good, "good.parquet"), tmp_path / "good") == Exit.OK
    assert run_job(manifest(mixed, "mixed.parquet"), tmp_path / "mixed") == Exit.FAILED_ROWS

    undisturbed, disturbed = ledger(tmp_path / "good"), ledger(tmp_path / "mixed")
    assert len(disturbed) == 22
    errors = {id: row["error_code"] for id, row in disturbed.items() if row["status"] == "error"}
    assert errors == {code: code for code in bad}
    for id, row in undisturbed.items():
        assert row["status"] == "ok"
        assert digests(row) == [out["sha256"] for out in row["outputs"]]
        assert digests(disturbed[id]) == digests(row)
    success = json.loads((tmp_path / "mixed" / "_SUCCESS").read_text())
    assert (success["ok"], success["error"], success["exit_code"]) == (16, 6, 3)
    report = (tmp_path / "mixed" / "report.html").read_text()
    assert "image_truncated" in report and "data:image/jpeg;base64" in report
    assert (tmp_path / "mixed" / "contact_sheet.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
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
    assert run_job(path, output, spec=dry(pocket)) == Exit.FAILED_ROWS
    results = ledger(output)
    assert len(results) == count
    codes = {id: row["error_code"] for id, row in results.items() if row["status"] == "error"}
    assert codes == {f"row-{place}": "worker_crashed" for place in fatal}
    assert Storage(str(output)).list(FOLDER) == []
    good = [row for i, row in enumerate(rows) if i not in fatal]
    undisturbed = tmp_path / "good"
    assert run_job(manifest(good, "good.parquet"), undisturbed, spec=dry(pocket)) == Exit.OK
    for id, row in ledger(undisturbed).items():
        assert digests(results[id]) == digests(row)


@pytest.mark.chaos
def test_a_worker_that_never_survives_stops_the_job_and_mended_rows_finish_it(
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
    assert run_job(path, output, spec=faulty(pocket)) == Exit.STOPPED
    assert "the worker died again and again" in caplog.text
    done = ledger(output)
    assert {row["status"] for row in done.values()} <= {"ok"}
    for row in rows[CONFIG.rows_per_block :]:
        row["instruction"] = "add fog"
    assert run_job(manifest(rows), output, spec=faulty(pocket)) == Exit.OK
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
    assert run_job(manifest(rows), output, spec=fragile(dry(pocket))) == Exit.FAILED_ROWS
    codes = {id: row["error_code"] for id, row in ledger(output).items()}
    crashed = {id for id, code in codes.items() if code == "worker_crashed"}
    assert crashed == {"row-1", "row-2"}
    assert [id for id, code in codes.items() if code is not None and id not in crashed] == []
    assert Storage(str(output)).list(FOLDER) == []


@pytest.mark.slow
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
    assert run_job(path, output, config) == Exit.OK
    killer.join()
    assert killed
    assert len(ledger(output)) == 40
    assert all(row["status"] == "ok" for row in ledger(output).values())


def test_a_model_that_cannot_be_loaded_costs_no_finished_row(
    cluster: None, manifest: Write, tmp_path: Path, pocket: ModelSpec
) -> None:
    rows, output = good_rows(3), tmp_path / "out"
    former = [Entry(row["id"], fingerprint="of another model") for row in rows]
    Ledger(Storage(str(output))).append(to_ledger(former))
    before = ledger(output)
    broken = replace(pocket, editor="tests.editors:NoSuchEditor")
    assert run_job(manifest(rows), output, spec=broken) == Exit.STOPPED
    assert ledger(output) == before


def test_a_pipeline_that_makes_no_progress_stops_the_job_with_4(
    cluster: None, manifest: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context = ray.data.DataContext.get_current()
    usual = context.execution_no_progress_timeout_s
    context.execution_no_progress_timeout_s = 1.0
    try:
        nowhere = CONFIG.model_copy(update={"num_gpus": 64.0})
        assert run_job(manifest(good_rows(1)), tmp_path / "out", nowhere) == Exit.STOPPED
    finally:
        context.execution_no_progress_timeout_s = usual
    assert "stopped: ExecutionTimeoutError" in caplog.text


def test_decoding_is_not_in_the_process_of_the_model(
    cluster: None, manifest: Write, tmp_path: Path, pocket: ModelSpec
) -> None:
    """Ray Data fuses a task with the actor behind it when their resources are the same."""
    job = Job.open(manifest(good_rows(2)), str(tmp_path / "out"), CONFIG, spec=dry(pocket))
    dataset = build_dataset(job.block_run(left(job))).materialize()
    assert "decode_block" in dataset.stats()
    assert "decode_block)->" not in dataset.stats()
