"""Failed rows are named where people look, mended, and retried alone."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from batch_jobs.config import JobConfig
from batch_jobs.ledger.failed import read_ids
from batch_jobs.status import describe
from batch_jobs.stopping import Exit
from cli.main import app
from engine.errors import ManifestInvalid, OptionInvalid
from storage.storage import Storage
from tests.batch_jobs.jobs import CONFIG, good_rows, job_here, ledger, left, run_here
from tests.batch_jobs.test_job import changed
from tests.batch_jobs.test_report import Elements

Write = Callable[..., str]
LATE = ("夜/杯子.jpg", "late, too.jpg")


def retry(file: Path) -> JobConfig:
    return CONFIG.model_copy(update={"retry": str(file)})


def named(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def job(manifest: Write, tmp_path: Path) -> tuple[str, Path]:
    """A finished job of 12 rows, the images of two missing and an instruction of one."""
    rows = good_rows(12)
    rows[2]["image"], rows[10]["image"] = LATE
    rows[11]["instruction"] = " "
    path, output = manifest(rows), tmp_path / "out"
    assert run_here(path, output) == Exit.FAILED_ROWS
    return path, output


def mend(folder: Path, photographs: dict[str, bytes]) -> None:
    for name in LATE:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(photographs["coffee"])


def test_failed_rows_are_named_in_the_report_and_in_a_file_beside_it(
    job: tuple[str, Path],
) -> None:
    _, output = job
    rows = named((output / "failed.csv").read_text(encoding="utf-8-sig"))
    assert [(row["id"], row["image"], row["code"]) for row in rows] == [
        ("row-2", LATE[0], "image_not_found"),
        ("row-10", LATE[1], "image_not_found"),
        ("row-11", "rocket.jpg", "instruction_empty"),
    ]
    assert all(row["message"] for row in rows)
    texts = Elements((output / "report.html").read_text()).texts
    for row in rows:
        assert {row["id"], row["image"], row["code"], row["message"]} <= set(texts)


def test_the_failed_rows_of_a_job_that_was_stopped_are_named_too(job: tuple[str, Path]) -> None:
    _, output = job
    for file in ("_SUCCESS", "failed.csv", "report.html"):
        (output / file).unlink()
    told = CliRunner().invoke(app, ["status", str(output), "--failed"])
    assert [row["id"] for row in named(told.stdout)] == ["row-2", "row-10", "row-11"]
    assert f"rayedit status {output} --failed" in describe(Storage(str(output)))


def test_rows_that_were_mended_are_retried_alone(
    job: tuple[str, Path], photographs: dict[str, bytes]
) -> None:
    path, output = job
    mend(output.parent, photographs)
    before = ledger(output)
    assert run_here(path, output, retry(output / "failed.csv")) == Exit.FAILED_ROWS
    after = ledger(output)
    assert changed(before, after) == ["row-2", "row-10", "row-11"]
    assert [after[id]["status"] for id in ("row-2", "row-10", "row-11")] == ["ok", "ok", "error"]
    assert [row["id"] for row in named((output / "failed.csv").read_text("utf-8-sig"))] == [
        "row-11"
    ]


def test_a_file_from_which_rows_were_taken_retries_the_others(
    job: tuple[str, Path], tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    path, output = job
    mend(output.parent, photographs)
    some = tmp_path / "some.csv"
    some.write_text("note;id\nmended;row-10\n", encoding="gb18030")
    before = ledger(output)
    assert run_here(path, output, retry(some)) == Exit.FAILED_ROWS
    assert changed(before, ledger(output)) == ["row-10"]


def test_nothing_fails_any_more_and_the_file_goes(
    manifest: Write, tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    rows, output = good_rows(3), tmp_path / "out"
    rows[1]["image"] = LATE[0]
    path = manifest(rows)
    assert run_here(path, output) == Exit.FAILED_ROWS
    mend(tmp_path, photographs)
    assert run_here(path, output, retry(output / "failed.csv")) == Exit.OK
    assert not (output / "failed.csv").exists()


def test_rows_that_were_added_wait_for_the_command_without_a_retry(
    job: tuple[str, Path], manifest: Write, photographs: dict[str, bytes]
) -> None:
    path, output = job
    rows: list[dict[str, Any]] = good_rows(14)
    rows[2]["image"], rows[10]["image"] = LATE
    manifest(rows)
    mend(output.parent, photographs)
    before = ledger(output)
    again = retry(output / "failed.csv")
    assert run_here(path, output, again) == Exit.STOPPED
    assert changed(before, ledger(output)) == ["row-2", "row-10", "row-11"]
    assert ledger(output).keys() == before.keys() and not (output / "_SUCCESS").exists()
    assert {row["status"] for row in ledger(output).values()} == {"ok"}
    assert len(left(job_here(path, output, again)).todo) == 0
    assert run_here(path, output) == Exit.OK
    assert len(ledger(output)) == 14


def test_a_retry_with_other_settings_than_the_job_had_is_refused(job: tuple[str, Path]) -> None:
    path, output = job
    before = ledger(output)
    again = retry(output / "failed.csv").model_copy(update={"seed": 5, "same_seed": True})
    with pytest.raises(OptionInvalid, match=r"and seed, same_seed changed since: .* 9 other rows"):
        run_here(path, output, again)
    assert ledger(output) == before and (output / "_SUCCESS").exists()


def test_a_second_retry_of_the_same_file_tries_again(
    job: tuple[str, Path], manifest: Write
) -> None:
    path, output = job
    rows: list[dict[str, Any]] = good_rows(13)  # one more, which no retry names
    rows[2]["image"], rows[10]["image"] = LATE
    rows[11]["instruction"] = " "
    manifest(rows)
    again = retry(output / "failed.csv")
    for attempts in (2, 3):
        assert run_here(path, output, again) == Exit.STOPPED
        assert ledger(output)["row-2"]["attempts"] == attempts


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "No such file or directory"),
        ("name\nrow-1\n", 'has no column "id": give the failed.csv'),
        ("id\nx\ny\n", "the manifest has none of its 2 ids"),
    ],
)
def test_a_file_that_names_no_row_is_refused(
    job: tuple[str, Path], tmp_path: Path, text: str | None, says: str
) -> None:
    path, output = job
    if text is not None:
        (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ManifestInvalid, match=says):
        job_here(path, output, retry(tmp_path / "x.csv"))
    assert (output / "_SUCCESS").exists()


def test_ids_that_excel_saved_are_read(tmp_path: Path) -> None:
    known = pa.chunked_array([["夜-1", "夜-2", "3"]])
    for name, encoding, comma in (
        ("a", "utf-8-sig", ","),
        ("b", "gb18030", ";"),
        ("c", "utf-8", "\t"),
    ):
        file = tmp_path / f"{name}.csv"
        file.write_text(f"id{comma}code\n夜-1{comma}x\n3{comma}y\ngone{comma}z\n", encoding)
        assert read_ids(str(file), known).to_pylist() == ["夜-1", "3"]


def test_an_export_has_the_failed_rows_alone_or_the_others(job: tuple[str, Path]) -> None:
    _, output = job
    for status, rows in (("error", 3), ("ok", 9)):
        done = CliRunner().invoke(app, ["export", str(output), "--to", "jsonl", "--status", status])
        assert done.stdout == f"{output}/export-jsonl-{status}.jsonl {rows} rows\n"
        lines = (output / f"export-jsonl-{status}.jsonl").read_text().splitlines()
        assert len(lines) == rows and all(f'"status": "{status}"' in line for line in lines)
