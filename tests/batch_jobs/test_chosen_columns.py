"""A chosen column holds the images of a job, from its plan to its triplets, whatever its name."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs.export.file import export_ledger
from batch_jobs.stopping import Exit
from storage.storage import Storage
from tests.batch_jobs.jobs import CONFIG, ledger, run_here
from tests.batch_jobs.shapes import data_url, write_lines

COLUMNS = {"image_column": "图", "instruction_column": "指令"}


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_images_of_a_chosen_column_are_found_again(
    tmp_path: Path, photographs: dict[str, bytes], ending: str
) -> None:
    photo, other = photographs["coffee"], photographs["rocket"]
    path = tmp_path / f"m.{ending}"
    if ending == "parquet":
        row = {"image": other, "图": photo, "指令": "变成夜晚", "prompt": "a cup of coffee"}
        pq.write_table(pa.Table.from_pylist([row]), path)
    else:
        write_lines(path, [{"image": "none.jpg", "图": data_url(photo), "指令": "变成夜晚"}])
    config = CONFIG.model_copy(update=COLUMNS)
    assert run_here(str(path), tmp_path / "out", config) == Exit.OK
    (row,) = ledger(tmp_path / "out").values()
    assert row["instruction"] == "变成夜晚"
    triplets = export_ledger(Storage(str(tmp_path / "out")), "triplets").dest
    assert pq.read_table(triplets)["source_image"][0].as_py()["bytes"] == photo
