"""The same plan from Parquet, JSONL and CSV; what cannot be read is named by file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs.manifest import read_manifest
from engine.edit import EditOptions
from engine.errors import ManifestInvalid

ROWS = [
    {"id": "a", "image": "x.jpg", "instruction": "make it night", "seed": 7, "guidance_scale": 5.5},
    {"id": "b", "image": "y.jpg", "instruction": "把它变成夜晚, 再加雾", "restore_size": True},
]


def options(plan: pa.Table) -> list[EditOptions]:
    return [EditOptions.parse(json.loads(o), strict=False) for o in plan["options"].to_pylist()]


@pytest.fixture
def manifests(tmp_path: Path) -> list[str]:
    columns = {key: [row.get(key) for row in ROWS] for row in ROWS for key in row}
    pq.write_table(pa.table(columns), tmp_path / "m.parquet")
    lines = "".join(json.dumps(row) + "\n\n" for row in ROWS)
    (tmp_path / "m.jsonl").write_text(lines)
    (tmp_path / "m.csv").write_text(
        "\ufeffid,image,instruction,seed,guidance_scale,restore_size\n"
        "a,x.jpg,make it night,7,5.5,\n"
        'b,y.jpg,"把它变成夜晚, 再加雾",,,true\n'
    )
    return [str(tmp_path / name) for name in ("m.parquet", "m.jsonl", "m.csv")]


def test_every_format_gives_the_same_plan(manifests: list[str]) -> None:
    plans = [read_manifest(path) for path in manifests]
    for plan in plans:
        assert plan["id"].to_pylist() == ["a", "b"]
        assert plan["instruction"].to_pylist() == [row["instruction"] for row in ROWS]
        first, second = options(plan)
        assert (first.seed, first.guidance_scale, first.restore_size) == (7, 5.5, False)
        assert (second.seed, second.guidance_scale, second.restore_size) == (None, None, True)


def test_a_folder_may_hold_every_format(manifests: list[str]) -> None:
    folder = Path(manifests[0]).parent
    with pytest.raises(ManifestInvalid, match="ids must be unique"):
        read_manifest(str(folder))
    Path(manifests[1]).unlink()
    Path(manifests[2]).unlink()
    assert len(read_manifest(str(folder))) == 2


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("m.jsonl", '{"image": "x"}\n{oops\n', "m.jsonl, line 2: not JSON"),
        ("m.jsonl", "[1]\n", "line 1: must be a JSON object"),
        ("m.jsonl", '{"image": "x"}\n', 'no column "instruction"'),
        ("m.csv", "image,instruction\nx\n", "line 2: 1 cells, the header has 2"),
        ("m.csv", "image,instruction\n", "has no rows"),
        ("m.csv", "", 'no column "image"'),
        ("m.csv", "image,instruction,guidence_scale\nx,y,5\n", 'mean "guidance_scale"'),
        ("m.parquet", "not parquet", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ManifestInvalid, match=says):
        read_manifest(str(tmp_path / name))


def test_whole_numbers_that_pandas_widened_are_whole_again(tmp_path: Path) -> None:
    table = pa.table({"image": ["x"], "instruction": ["y"], "seed": [7.0]})
    pq.write_table(table, tmp_path / "m.parquet")
    assert options(read_manifest(str(tmp_path / "m.parquet")))[0].seed == 7
