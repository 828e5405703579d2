"""Parquet manifests: images are read where they are needed, and text is text."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs.manifest.carried import carried_values
from batch_jobs.manifest.plan import read_manifest
from engine.errors import ManifestInvalid
from tests.batch_jobs.shapes import (
    data_url,
    embedded,
    embedded_masks,
    fault,
    options,
    planned,
    write_lines,
)


def test_whole_numbers_that_pandas_widened_are_whole_again(tmp_path: Path) -> None:
    table = pa.table({"image": ["x"], "instruction": ["y"], "seed": [7.0]})
    pq.write_table(table, tmp_path / "m.parquet")
    assert options(read_manifest(str(tmp_path / "m.parquet")))[0].seed == 7


def test_images_of_a_large_row_group_are_found_again(tmp_path: Path) -> None:
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = [{"bytes": b"%d" % i if i % 2 else None, "path": f"{i}.jpg"} for i in range(300)]
    table = pa.table({"image": pa.array(images, struct), "instruction": ["add fog"] * 300})
    pq.write_table(table, tmp_path / "m.parquet", row_group_size=200)
    plan = read_manifest(str(tmp_path / "m.parquet"))
    assert plan["id"].to_pylist()[199:201] == ["m.parquet-0-199", "m.parquet-1-0"]
    assert plan["image"].to_pylist()[:3] == ["0.jpg", None, "2.jpg"]
    assert embedded(plan) == {i: b"%d" % i for i in range(1, 300, 2)}


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="only Linux counts bytes read")
def test_the_blocks_of_a_row_group_read_it_once(tmp_path: Path) -> None:
    images, masks = ([os.urandom(20_000) for _ in range(400)] for _ in range(2))
    table = pa.table({"image": images, "instruction": ["add fog"] * 400, "mask": masks})
    pq.write_table(table, tmp_path / "m.parquet", row_group_size=200)
    plan = read_manifest(str(tmp_path / "m.parquet"))
    before = psutil.Process().io_counters().read_chars
    for start in range(0, 400, 4):
        rows = slice(start, start + 4)
        block = plan[rows]
        assert list(embedded(block).values()) == images[rows]
        assert list(embedded_masks(block).values()) == masks[rows]
    read = psutil.Process().io_counters().read_chars - before
    assert read < 1.5 * (tmp_path / "m.parquet").stat().st_size


def of_cells(count: int, cell: str | bytes) -> pa.Table:
    """So many rows, all of the same image."""
    kind = pa.binary() if isinstance(cell, bytes) else pa.string()
    images = pa.chunked_array([pa.array([cell], kind)] * count)
    return pa.table({"image": images, "instruction": ["add fog"] * count})


def test_a_row_group_that_no_process_should_hold_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "m.parquet")
    table = of_cells(1100, bytes(2**20))
    pq.write_table(table, path, use_dictionary=False)
    with pytest.raises(ManifestInvalid, match=r"group 0 holds 1,100 MiB .*row_group_size=127"):
        read_manifest(path)


def test_repeated_images_of_a_row_group_are_counted_each(tmp_path: Path) -> None:
    """Parquet holds them once, who reads the group holds each."""
    path = str(tmp_path / "m.parquet")
    images = pa.DictionaryArray.from_arrays(np.zeros(2200, np.int32), [bytes(2**19)])
    table = pa.table({"image": images, "instruction": ["add fog"] * 2200})
    pq.write_table(table, path, store_schema=False)
    assert Path(path).stat().st_size < 2**20
    with pytest.raises(ManifestInvalid, match=r"group 0 holds 1,\d\d\d MiB .*row_group_size=\d+"):
        read_manifest(path)


def test_text_that_is_not_utf8_is_named_with_its_file(tmp_path: Path) -> None:
    text = pa.array([b"caf\xe9"], pa.binary())
    instruction = pa.StringArray.from_buffers(1, text.buffers()[1], text.buffers()[2])
    pq.write_table(pa.table({"image": ["x"], "instruction": instruction}), tmp_path / "m.parquet")
    with pytest.raises(ManifestInvalid, match='row group 0, row 0: column "instruction" is not'):
        read_manifest(str(tmp_path / "m.parquet"))


def test_long_data_urls_are_not_read_all_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "m.parquet")
    pq.write_table(of_cells(130, data_url(bytes(2**19))), path, use_dictionary=False)
    plan = read_manifest(path)
    assert max(len(chunk) for chunk in plan["image_sha256"].chunks) < 100
    assert len(plan) == 130 and plan["image_sha256"].null_count == 0


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_text_is_text_however_arrow_holds_it(tmp_path: Path, kind: pa.DataType) -> None:
    column = pa.array(["x", "y"]).cast(kind)
    table = pa.table({"id": column, "image": column, "instruction": column, "resize": column})
    pq.write_table(table, tmp_path / "m.parquet")
    plan = read_manifest(str(tmp_path / "m.parquet"))
    for name in ("id", "image", "instruction"):
        assert plan[name].to_pylist() == ["x", "y"]
    assert "got 'x'" in fault(planned(plan)[0]).message


def test_data_urls_are_images_in_jsonl_and_in_parquet(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "image": data_url(b"bytes"), "instruction": "add fog"},
        {"id": "b", "image": "x.jpg", "instruction": "add fog"},
        {"id": "c", "image": "data:image/png;base64,!", "instruction": "add fog"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "m.parquet")
    write_lines(tmp_path / "m.jsonl", rows)
    for name in ("m.parquet", "m.jsonl"):
        plan = read_manifest(str(tmp_path / name))
        assert embedded(plan) == {0: b"bytes"}
        assert plan["image"].to_pylist() == [None, "x.jpg", None]
        assert fault(planned(plan)[2]).code == "image_unreadable"


def test_dates_that_python_cannot_hold_are_carried(tmp_path: Path) -> None:
    columns = {
        "image": ["a.jpg"],
        "instruction": ["add fog"],
        "made": pa.array([1], pa.timestamp("ns", "UTC")),
        "day": pa.array([2**30], pa.date32()),
        "took": pa.array([1], pa.duration("ns")),
        "at": pa.array([1], pa.time64("ns")),
        "no": [float("nan")],
    }
    pq.write_table(pa.table(columns), tmp_path / "m.parquet")
    (carried,) = read_manifest(str(tmp_path / "m.parquet"))["carried"].to_pylist()
    told = carried_values(carried)
    assert set(told) == {"made", "day", "took", "at"}
    assert (told["took"], told["at"]) == (1, "00:00:00.000000001")
    assert told["made"].startswith("1970-01-01 00:00:00.000000001")
