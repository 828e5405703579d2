"""Of a folder and a glob every manifest is read, in every packing, or what is not is named."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs.manifest.carried import carried_values
from batch_jobs.manifest.files import find_files
from batch_jobs.manifest.plan import open_manifest, read_manifest
from engine.errors import ManifestInvalid
from tests.batch_jobs.shapes import data_url, embedded

ROWS = [{"image": "a.jpg", "instruction": "add fog"}, {"image": "b.jpg", "instruction": "make it"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
CSV = b"image,instruction\na.jpg,add fog\nb.jpg,make it\n"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("m.ndjson", LINES),
        ("m.jsonl.gz", gzip.compress(LINES)),
        ("M.NDJSON.GZ", gzip.compress(LINES)),
        ("m.json", json.dumps(ROWS, indent=1).encode()),
        ("m.json", LINES),
        ("m.json.gz", gzip.compress(json.dumps(ROWS).encode())),
        ("m.csv.gz", gzip.compress(CSV)),
        ("m.tsv", CSV.replace(b",", b"\t")),
    ],
)
def test_a_manifest_is_read_in_every_form(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    plan = read_manifest(str(tmp_path / name))
    assert plan.select(["image", "instruction"]).to_pylist() == ROWS


@pytest.mark.parametrize("name", ["m.jsonl.gz", "m.ndjson", "m.json"])
def test_images_in_lines_are_found_again_in_every_packing(tmp_path: Path, name: str) -> None:
    held = [{"image": data_url(b"%d" % i), "instruction": "add fog"} for i in range(9)]
    data = "".join(json.dumps(row) + "\n" for row in held).encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    plan = read_manifest(str(tmp_path / name))
    assert embedded(plan) == {i: b"%d" % i for i in range(9)}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"[1]", "object 1: must be a JSON object"),
        (b'[{"image": "x"', "m.json: not JSON"),
        (b'[\n{"image": "\xb0"}]', "m.json, line 2: not UTF-8"),
        (json.dumps([{"image": data_url(b"x")}]).encode(), "object 1: a list holds no images"),
        (b'{\n "rows": []\n}', "line 1: not JSON"),
    ],
)
def test_a_list_that_cannot_be_read_is_named(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "m.json").write_bytes(data)
    with pytest.raises(ManifestInvalid, match=says):
        read_manifest(str(tmp_path / "m.json"))


def deep(write: Callable[[str, bytes], object]) -> None:
    """6 rows at three depths, beside what a glob must not find."""
    for name in ("a.csv", "x/b.csv", "x/y/c.csv"):
        write(name, CSV)
    for name in (".hidden/d.csv", "x/.e.csv", "x/notes.txt"):
        write(name, b"none")


@pytest.mark.parametrize(
    ("pattern", "rows"),
    [("**/*.csv", 6), ("*.csv", 2), ("*/*.csv", 2), ("x/**/*.csv", 4), ("**/c.csv", 2), ("x", 4)],
)
def test_two_asterisks_mean_the_same_on_a_disk_and_in_storage(
    tmp_path: Path, pattern: str, rows: int
) -> None:
    def on_disk(name: str, data: bytes) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)

    store = fsspec.filesystem("memory")
    deep(on_disk)
    deep(lambda name, data: store.pipe_file(f"/deep-tables/{name}", data))
    here = read_manifest(f"{tmp_path}/{pattern}")
    there = read_manifest(f"memory://deep-tables/{pattern}")
    assert len(here) == len(there) == rows
    assert here["id"].to_pylist() == there["id"].to_pylist()


def test_a_folder_is_read_to_any_depth_and_what_is_left_out_is_named(tmp_path: Path) -> None:
    for folder in ("a", "a/b", "out/results", "photos"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("m.csv", "a/m.csv", "a/b/m.csv", "out/results/m.csv"):
        (tmp_path / name).write_bytes(CSV)
    for name in ("out/job.json", "dataset_info.json", "a/notes.txt", "photos/a.jpg", "_SUCCESS"):
        (tmp_path / name).write_bytes(b"{}")
    manifest = open_manifest(str(tmp_path))
    assert sorted(manifest.files) == [str(tmp_path / p / "m.csv") for p in ("a/b", "a", "")]
    output, others = manifest.notes
    assert output == f"{tmp_path}/out: the output of a job, left out"
    assert others.endswith("no manifests, left out: 1 .txt, 1 .json, such as a/notes.txt")


def test_a_folder_of_hives_kind_is_a_column(tmp_path: Path) -> None:
    for split in ("train", "te%20st"):
        folder = tmp_path / f"split={split}" / "n=__HIVE_DEFAULT_PARTITION__"
        folder.mkdir(parents=True)
        rows = [{"image": "a.jpg", "instruction": "add fog", "score": 0.5}]
        pq.write_table(pa.Table.from_pylist(rows), folder / "0.parquet")
    manifest = open_manifest(str(tmp_path))
    carried = [carried_values(one) for one in manifest.plan["carried"].to_pylist()]
    assert carried == [{"split": s, "score": 0.5} for s in ("te st", "train")]


@pytest.mark.parametrize(
    ("part", "says"),
    [("seed=5", "names the column seed: write it into"), ("steps=5", "num_inference_steps")],
)
def test_a_folder_that_names_an_option_is_refused(tmp_path: Path, part: str, says: str) -> None:
    (tmp_path / part).mkdir()
    (tmp_path / part / "m.csv").write_bytes(CSV)
    with pytest.raises(ManifestInvalid, match=says):
        read_manifest(str(tmp_path))


@pytest.mark.parametrize("name", ["0.parquet", "0.csv", "0.jsonl", "0.jsonl.gz", "0.xlsx"])
def test_an_empty_file_has_no_rows_and_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    (tmp_path / "1.csv").write_bytes(CSV)
    manifest = open_manifest(str(tmp_path))
    assert len(manifest.plan) == 2
    assert manifest.notes == [f"{tmp_path / name} is empty (0 bytes)"]


def test_a_file_is_found_once_whatever_names_it(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "m.csv").write_bytes(CSV)
    assert find_files(f"{tmp_path}/**").files == [str(tmp_path / "x" / "m.csv")]
