"""The same plan from every format; ids and base folder are those of the whole manifest."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3fs import S3FileSystem

from batch_jobs.manifest.plan import base_of, read_manifest
from engine.errors import ManifestInvalid
from tests.batch_jobs.shapes import data_url, options, write_lines

ROWS = [
    {"id": "a", "image": "x.jpg", "instruction": "make it night", "seed": 7, "guidance_scale": 5.5},
    {"id": "b", "image": "y.jpg", "instruction": "把它变成夜晚, 再加雾", "restore_size": True},
]


@pytest.mark.parametrize(
    "location",
    ["m.csv", "*.csv", "m.[cj]*", "x/*.csv", "p?/m.csv", "p[12]/*/m.csv", "odd[1]/m.csv"],
)
def test_relative_images_start_from_the_last_folder_that_all_files_share(
    tmp_path: Path, location: str
) -> None:
    (tmp_path / "odd[1]").mkdir()  # a name, not a pattern
    shared = {"x/*.csv": "x", "odd[1]/m.csv": "odd[1]"}.get(location, "")
    assert base_of(str(tmp_path / location)) == str(tmp_path / shared)


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
        assert (first.seed, first.guidance_scale, first.restore_size) == (7, 5.5, None)
        assert (second.seed, second.guidance_scale, second.restore_size) == (None, None, True)


def test_a_folder_may_hold_every_format(manifests: list[str]) -> None:
    folder = Path(manifests[0]).parent
    with pytest.raises(ManifestInvalid, match="ids must be unique"):
        read_manifest(str(folder))
    Path(manifests[1]).unlink()
    Path(manifests[2]).unlink()
    assert len(read_manifest(str(folder))) == 2


def test_folders_and_globs_are_manifests_too(tmp_path: Path) -> None:
    for part in range(3):
        rows = [{"image": "x.jpg", "instruction": f"{part}-{i}"} for i in range(4)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{part}.parquet")
    for location in (str(tmp_path), f"{tmp_path}/*.parquet"):
        plan = read_manifest(location)
        assert plan["instruction"].to_pylist() == [f"{p}-{i}" for p in range(3) for i in range(4)]
        assert len(set(plan["id"].to_pylist())) == 12
    with pytest.raises(ManifestInvalid, match="no manifest at"):
        read_manifest(f"{tmp_path}/none.parquet")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("m.jsonl", '{"image": "x"}\n{oops\n', "m.jsonl, line 2: not JSON"),
        ("m.jsonl", "[1]\n", "line 1: must be a JSON object"),
        ("m.jsonl", '{"image": "x"}\n', 'no column "instruction"'),
        ("m.csv", "image,instruction\nx\n", "line 2: 1 cells, the header has 2"),
        ("m.csv", 'image,instruction\nx,"two\nlines"\nx\n', "line 4: 1 cells"),
        ("m.csv", "image,instruction\n", "has no rows"),
        ("m.csv", "", r"m.csv has no rows; .*m.csv is empty \(0 bytes\)"),
        ("m.csv", "image,instruction,guidence_scale\nx,y,5\n", 'mean "guidance_scale"'),
        ("m.csv", "image,instruction,masks\nx,y,m.png\n", 'mean "mask"'),
        ("m.parquet", "not parquet", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ManifestInvalid, match=says):
        read_manifest(str(tmp_path / name))


def test_the_ids_of_a_glob_stay_when_a_folder_more_matches_it(tmp_path: Path) -> None:
    def ids() -> set[str]:
        return set(read_manifest(str(tmp_path / "*" / "m.csv"))["id"].to_pylist())

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "m.csv").write_text("image,instruction\nx,add fog\n")
        if name == "a":
            before = ids()
    assert before == {"a/m.csv-0-0"} and ids() == {"a/m.csv-0-0", "b/m.csv-0-0"}


def test_a_folder_is_read_whatever_the_case_of_its_endings(tmp_path: Path) -> None:
    for name in ("a.csv", "B.CSV", "notes.txt"):
        (tmp_path / name).write_text("image,instruction\nx,add fog\n")
    files = {Path(file).name for file in read_manifest(str(tmp_path))["file"].to_pylist()}
    assert files == {"a.csv", "B.CSV"}


def test_the_files_of_repeated_ids_are_named(tmp_path: Path) -> None:
    row = {"id": "a", "image": "x", "instruction": "y"}
    write_lines(tmp_path / "one.jsonl", [row, row | {"id": "b"}])
    write_lines(tmp_path / "two.jsonl", [row, row | {"id": None}])
    with pytest.raises(ManifestInvalid, match=r"id is null in rows 2 \(two.jsonl\)"):
        read_manifest(str(tmp_path))
    write_lines(tmp_path / "two.jsonl", [row])
    with pytest.raises(ManifestInvalid, match=r"these are not: a \(one.jsonl, two.jsonl\)"):
        read_manifest(str(tmp_path))


def test_the_type_of_a_file_is_known_by_its_name_or_its_content(tmp_path: Path) -> None:
    (tmp_path / "m.xls").write_bytes(b"\xd0\xcf\x11\xe0")
    says = r"m\.xls cannot be read: a manifest ends in .*; save it as \.xlsx"
    with pytest.raises(ManifestInvalid, match=says):
        read_manifest(str(tmp_path / "m.xls"))
    pq.write_table(pa.table({"image": ["x"], "instruction": ["y"]}), tmp_path / "part-0")
    assert len(read_manifest(str(tmp_path / "part-0"))) == 1


def test_a_store_without_credentials_is_one_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(ManifestInvalid, match=r"m\.parquet cannot be reached"):
        read_manifest("s3://bucket/m.parquet")
    S3FileSystem.clear_instance_cache()


def test_a_csv_holds_no_images(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(f'image,instruction\n"{data_url(b"x")}",add fog\n')
    with pytest.raises(ManifestInvalid, match="line 2: a CSV or sheet holds no images"):
        read_manifest(str(tmp_path / "m.csv"))
