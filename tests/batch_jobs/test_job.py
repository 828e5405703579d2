"""N rows in, N rows out, each with its status; what is done is not done again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batch_jobs.job import Job
from batch_jobs.ledger.entry import Entry, to_ledger
from batch_jobs.ledger.layout import JOB
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.stages.in_process import edited_here
from batch_jobs.stages.run import BlockRun, EditedBlocks
from batch_jobs.stopping import Exit
from engine.errors import ManifestInvalid, OutputUnusable
from engine.seeding import row_seed
from storage.storage import Storage
from tests.batch_jobs.jobs import CONFIG, digests, good_rows, job_here, ledger, left, run_here

Write = Callable[..., str]


def changed(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> list[str]:
    """The rows that were edited meanwhile."""
    return [id for id in after if after[id]["finished_at"] != before[id]["finished_at"]]


def test_a_finished_job_is_not_run_again_and_a_changed_row_is_redone_alone(
    manifest: Write, tmp_path: Path
) -> None:
    rows, output = good_rows(12), tmp_path / "out"
    assert run_here(manifest(rows), output) == Exit.OK
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    assert run_here(manifest(rows), output) == Exit.OK
    assert {p: p.stat().st_mtime_ns for p in output.rglob("*") if p.is_file()} == before

    old = ledger(output)
    rows[3]["instruction"] = "turn it into a pencil sketch"
    assert run_here(manifest(rows), output) == Exit.OK
    new = ledger(output)
    assert changed(old, new) == ["row-3"]
    assert new["row-3"]["instruction"] == "turn it into a pencil sketch"
    assert new["row-3"]["outputs"][0]["uri"] != old["row-3"]["outputs"][0]["uri"]


def test_what_changes_pixels_is_edited_again(manifest: Write, tmp_path: Path) -> None:
    rows = [row | {"restore_size": False} for row in good_rows(2)]
    path, output = manifest(rows), tmp_path / "out"
    assert run_here(path, output) == Exit.OK
    before = ledger(output)
    engine = CONFIG.engine.model_copy(update={"resolution": 96})
    assert run_here(path, output, CONFIG.model_copy(update={"engine": engine})) == Exit.OK
    after = ledger(output)
    assert all(after[id]["fingerprint"] != before[id]["fingerprint"] for id in before)
    assert after["row-0"]["outputs"][0]["width_px"] == 96


def test_rows_that_left_the_manifest_leave_the_ledger_and_another_manifest_is_refused(
    manifest: Write, tmp_path: Path
) -> None:
    rows, output = good_rows(3), tmp_path / "out"
    rows[0]["instruction"] = ""
    assert run_here(manifest(rows), output) == Exit.FAILED_ROWS
    with pytest.raises(OutputUnusable, match="1 row of another manifest, such as row-0"):
        run_here(manifest(rows[1:], "other.parquet"), output)
    assert len(ledger(output)) == 3
    assert run_here(manifest(rows[1:]), output) == Exit.OK
    assert set(ledger(output)) == {"row-1", "row-2"}


def test_a_manifest_of_the_same_ids_and_names_elsewhere_is_another(tmp_path: Path) -> None:
    for folder in ("a", "b", "c", "e"):
        (tmp_path / folder).mkdir()
        image = "1.jpg" if folder in "ab" else "/1.jpg"
        mask = "1.png" if folder == "e" else ""
        text = f"id,image,mask,instruction\n1,{image},{mask},add fog\n"
        (tmp_path / folder / "m.csv").write_text(text)

    def job(folder: str, output: str) -> Job:
        return job_here(str(tmp_path / folder / "m.csv"), tmp_path / output)

    def is_now_of(output: str, folder: str) -> None:
        text = f'{{"manifest": "{tmp_path / folder / "m.csv"}", "fingerprint_recipe": 2}}'
        Storage(str(tmp_path / output)).publish(JOB, text.encode())

    def finish(done: Job, output: str, folder: str) -> None:
        rows = done.plan.rows.to_pylist()
        done.ledger.append(
            to_ledger(Entry(row["id"], fingerprint=row["fingerprint"]) for row in rows)
        )
        is_now_of(output, folder)

    finish(job("a", "out"), "out", "a")
    assert len(left(job("a", "out")).todo) == 0
    with pytest.raises(OutputUnusable, match=r'/a, not of those in .*/b: .*correct "manifest" in'):
        left(job("b", "out"))
    is_now_of("out", "b")
    assert len(left(job("b", "out")).todo) == 0
    finish(job("c", "absolute"), "absolute", "c")
    (tmp_path / "c").rename(tmp_path / "d")
    assert len(left(job("d", "absolute")).todo) == 0
    finish(job("e", "masked"), "masked", "e")
    (tmp_path / "e").rename(tmp_path / "f")
    with pytest.raises(OutputUnusable, match=r"/e, not of those in .*/f: give"):
        left(job("f", "masked"))


def test_a_moved_output_is_finished_all_the_same(manifest: Write, tmp_path: Path) -> None:
    rows = good_rows(3)
    assert run_here(manifest(rows), tmp_path / "out") == Exit.OK
    (tmp_path / "out").rename(tmp_path / "moved")
    rows[1]["instruction"] = "sepia"
    assert run_here(manifest(rows), tmp_path / "moved") == Exit.OK
    assert len(ledger(tmp_path / "moved")) == 3


def test_a_row_without_an_image_is_an_error_row_in_every_format(
    tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    (tmp_path / "coffee.jpg").write_bytes(photographs["coffee"])
    text = "image,instruction,num_inference_steps\n,make it night,2\ncoffee.jpg,add fog,2\n\n"
    (tmp_path / "m.csv").write_text(text)
    assert run_here(str(tmp_path / "m.csv"), tmp_path / "out") == Exit.FAILED_ROWS
    codes = {row["error_code"] for row in ledger(tmp_path / "out").values()}
    assert codes == {"image_missing", None}


def test_rows_without_a_seed_get_theirs_from_job_and_id(manifest: Write, tmp_path: Path) -> None:
    rows = good_rows(3)
    rows[1]["seed"] = 99
    assert run_here(manifest(rows), tmp_path / "out") == Exit.OK
    assert run_here(manifest(rows[::-1], "reversed.parquet"), tmp_path / "reversed") == Exit.OK
    seeds = {id: row["seed"] for id, row in ledger(tmp_path / "out").items()}
    assert seeds == {"row-0": row_seed(0, "row-0"), "row-1": 99, "row-2": row_seed(0, "row-2")}
    for id, row in ledger(tmp_path / "reversed").items():
        assert digests(row) == digests(ledger(tmp_path / "out")[id])


def test_several_images_of_a_row_have_seeds_of_their_own(manifest: Write, tmp_path: Path) -> None:
    row = {**good_rows(1)[0], "num_images": 3, "restore_size": True}
    assert run_here(manifest([row]), tmp_path / "out") == Exit.OK
    outputs = ledger(tmp_path / "out")["row-0"]["outputs"]
    assert len({out["sha256"] for out in outputs}) == len({out["seed"] for out in outputs}) == 3
    assert {(out["width_px"], out["height_px"]) for out in outputs} == {(512, 512)}


def test_failed_rows_are_edited_again_only_when_asked(
    manifest: Write, tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    rows = good_rows(4)
    rows[1]["image"], rows[2]["instruction"] = "late.jpg", " "
    path, output = manifest(rows), tmp_path / "out"
    assert run_here(path, output) == Exit.FAILED_ROWS
    (tmp_path / "late.jpg").write_bytes(photographs["coffee"])
    assert run_here(path, output) == Exit.FAILED_ROWS
    assert ledger(output)["row-1"]["error_code"] == "image_not_found"

    before = ledger(output)
    retry = CONFIG.model_copy(update={"retry": "image_not_found"})
    assert run_here(path, output, retry) == Exit.FAILED_ROWS
    after = ledger(output)
    assert (after["row-1"]["status"], after["row-1"]["attempts"]) == ("ok", 2)
    assert changed(before, after) == ["row-1"]
    again = CONFIG.model_copy(update={"retry": "all"})
    assert run_here(path, output, again) == Exit.FAILED_ROWS
    assert ledger(output)["row-2"]["attempts"] == 2


def test_too_many_failed_rows_stop_the_job_and_keep_what_is_done(
    manifest: Write, tmp_path: Path
) -> None:
    rows = [{**row, "instruction": ""} if i % 2 else row for i, row in enumerate(good_rows(30))]
    config = CONFIG.model_copy(update={"min_rows_for_error_rate": 10})
    output = tmp_path / "out"
    assert run_here(manifest(rows), output, config) == Exit.STOPPED
    done = ledger(output)
    assert 10 <= len(done) < 30
    assert not (output / "_SUCCESS").exists()
    tolerant = config.model_copy(update={"max_error_rate": 0.6})
    assert run_here(manifest(rows), output, tolerant) == Exit.FAILED_ROWS
    resumed = ledger(output)
    assert len(resumed) == 30
    assert all(resumed[id]["finished_at"] == row["finished_at"] for id, row in done.items())
    assert run_here(manifest(rows[1::2][:10]), tmp_path / "last", config) == Exit.FAILED_ROWS
    assert (tmp_path / "last" / "report.html").exists()  # there was nothing left to stop


def test_an_image_outside_the_root_is_refused(manifest: Write, tmp_path: Path) -> None:
    (tmp_path / "link.jpg").symlink_to("/etc/passwd")
    images = ["../secret.jpg", "/etc/passwd", "link.jpg", "s3://bucket/x.jpg", "http://host/x.jpg"]
    rows = [
        {"id": str(i), "image": image, "instruction": "make it night"}
        for i, image in enumerate(images)
    ]
    config = CONFIG.model_copy(update={"image_root": str(tmp_path)})
    assert run_here(manifest(rows), tmp_path / "out", config) == Exit.FAILED_ROWS
    codes = {row["error_code"] for row in ledger(tmp_path / "out").values()}
    assert codes == {"image_source_refused"}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"id": "a", "image": "x", "instruction": "y"}] * 2, "ids must be unique.* a"),
        ([{"id": None, "image": "x", "instruction": "y"}], "id is null in rows"),
        ([{"id": "a", "instruction": "y"}], 'no column "image"'),
        ([{"id": "a", "image": "x", "instruction": "y", "guidance_scal": 5}], "guidance_scale"),
        ([{"id": "a", "image": "x", "instruction": "y", "prompt": "z"}], "two columns"),
    ],
)
def test_a_manifest_that_cannot_be_run_is_refused_before_anything_starts(
    manifest: Write, tmp_path: Path, rows: list[dict[str, Any]], says: str
) -> None:
    with pytest.raises(ManifestInvalid, match=says):
        run_here(manifest(rows), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_output_that_workers_cannot_share_is_refused(manifest: Write) -> None:
    for output in ("memory://out", "https://host/out"):
        with pytest.raises(OutputUnusable, match="give a path or one of file://, s3://, gs://"):
            Job.open(manifest(good_rows(1)), output, CONFIG)


def test_an_output_that_cannot_be_read_stops_the_job_with_4(
    manifest: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "out"
    (output / "results" / "part.parquet").mkdir(parents=True)
    assert run_here(manifest(good_rows(1)), output) == Exit.STOPPED
    assert "Is a directory" in caplog.text and "run it again" in caplog.text


def after_the_first_block(job: Job, act: Callable[[], None]) -> Job:
    """The same job, beside which something happens when its first block is done."""

    @contextmanager
    def run_blocks(run: BlockRun) -> Iterator[EditedBlocks]:
        def entries(blocks: Iterator[pa.Table]) -> Iterator[pa.Table]:
            yield next(blocks)
            act()
            yield from blocks

        with edited_here(run) as edited:
            yield EditedBlocks(edited.config, entries(edited.entries))

    return replace(job, run_blocks=run_blocks)


def test_a_ledger_that_another_wrote_to_is_no_success_and_the_next_run_mends_it(
    manifest: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = job_here(manifest(good_rows(20)), tmp_path / "out")
    book = Ledger(job.storage)
    wrote_too = after_the_first_block(job, lambda: book.append(book.read().slice(0, 1)))
    assert wrote_too.run() == Exit.STOPPED
    assert "another job wrote to it" in caplog.text
    assert not job.storage.exists("_SUCCESS") and len(book.read()) == 21
    repeated = left(job)
    assert len(repeated.todo) == 1
    assert repeated.outdated["id"].to_pylist() == 2 * repeated.todo["id"].to_pylist()
    assert job.run() == Exit.OK
    assert len(ledger(tmp_path / "out")) == 20


def test_a_job_that_is_asked_to_stop_keeps_what_is_done_and_goes_on_there(
    manifest: Write, tmp_path: Path
) -> None:
    job = job_here(manifest(good_rows(20)), tmp_path / "out")
    asked = after_the_first_block(job, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert asked.run() == Exit.TERMINATED
    done = ledger(tmp_path / "out")
    assert len(done) == 10 and not job.storage.exists("lease.json")
    assert job.run() == Exit.OK
    resumed = ledger(tmp_path / "out")
    assert len(resumed) == 20
    assert all(resumed[id]["finished_at"] == row["finished_at"] for id, row in done.items())
