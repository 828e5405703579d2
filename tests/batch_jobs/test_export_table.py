"""A ledger as a table for people: CSV and a workbook with the same cells, failed rows included."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook

from batch_jobs.export.file import export_ledger
from batch_jobs.manifest.plan import read_manifest
from batch_jobs.manifest.table import as_text
from batch_jobs.stopping import Exit
from storage.storage import Storage
from tests.batch_jobs.jobs import ledger, run_here
from tests.batch_jobs.shapes import write_lines


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory, photographs: dict[str, bytes]) -> Path:
    """A job over two good rows and a bad one, with a column of the shop's own."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "夜.jpg").write_bytes(photographs["coffee"])
    row = {"image": "夜.jpg", "instruction": "=make it night", "价格": 9.5, "status": "new"}
    lines: list[dict[str, Any]] = [
        {"id": "row-2", **row, "num_images": 2, "seed": 5},
        {"id": "row-10", **row, "image": "none.jpg", "价格": "a,b"},
        {"id": "row-1", **row, "tags": ["x"]},
    ]
    manifest = write_lines(folder / "m.jsonl", lines)
    assert run_here(manifest, folder / "out") == Exit.FAILED_ROWS
    return folder / "out"


def test_a_table_has_a_row_for_each_row_and_what_was_carried(output: Path) -> None:
    done = export_ledger(Storage(str(output)), "csv")
    assert (done.dest, done.rows) == (f"{output}/export.csv", 3)
    data = Path(done.dest).read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")  # or Excel takes it for another encoding
    first, second, third = csv.DictReader(io.StringIO(data.decode("utf-8-sig")))
    rows = ledger(output)
    assert [row["id"] for row in (first, second, third)] == ["row-1", "row-2", "row-10"]
    assert (first["价格"], third["价格"], first["tags"]) == ("9.5", "a,b", '["x"]')
    assert first["image"] == str(output.parent / "夜.jpg")
    assert (third["status"], third["error_code"]) == ("error", "image_not_found")
    assert (first["status"], first["status (manifest)"]) == ("ok", "new")
    uris = [out["uri"] for out in rows["row-2"]["outputs"]]
    assert [second["output"], second["output_2"]] == uris
    assert (second["seed"], second["width_px"], third["output"]) == ("5", "64", "")


def test_a_workbook_has_the_cells_of_the_csv_and_no_formula(output: Path) -> None:
    dest = export_ledger(Storage(str(output)), "xlsx").dest
    sheet = load_workbook(dest).active
    assert all(cell.data_type != "f" for row in sheet.iter_rows() for cell in row)
    cells = [[as_text(cell.value) for cell in row] for row in sheet.iter_rows()]
    text = Path(export_ledger(Storage(str(output)), "csv").dest).read_text("utf-8-sig")
    assert cells == list(csv.reader(io.StringIO(text)))


@pytest.mark.parametrize("shape", ["csv", "xlsx"])
def test_a_table_is_a_manifest_again(output: Path, shape: Any) -> None:
    dest = export_ledger(Storage(str(output)), shape, status="error").dest
    assert Path(dest).name == f"export-error.{shape}"
    (row,) = read_manifest(dest).to_pylist()
    assert (row["id"], row["image"]) == ("row-10", str(output.parent / "none.jpg"))
    assert row["instruction"] == "=make it night"
