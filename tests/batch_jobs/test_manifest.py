"""The same plan from every format and shape; what cannot be read is named by file and line."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3fs import S3FileSystem

from batch_jobs.manifest.jsonl import read_jsonl
from batch_jobs.manifest.plan import base_of, read_manifest
from batch_jobs.manifest.rows import planned_options
from engine.errors import ManifestInvalid
from engine.options import EditOptions
from tests.batch_jobs.shapes import POCKET, batch_line, data_url, embedded, fault, write_lines

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


def options(plan: pa.Table) -> list[EditOptions]:
    return [planned_options(planned, POCKET) for planned in plan["options"].to_pylist()]


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
        ("m.csv", 'image,instruction\nx,"two\nlines"\nx\n', "line 4: 1 cells"),
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
    images = [os.urandom(20_000) for _ in range(400)]
    table = pa.table({"image": images, "instruction": ["add fog"] * 400})
    pq.write_table(table, tmp_path / "m.parquet", row_group_size=200)
    plan = read_manifest(str(tmp_path / "m.parquet"))
    before = psutil.Process().io_counters().read_chars
    for start in range(0, 400, 4):
        assert list(embedded(plan[start : start + 4]).values()) == images[start : start + 4]
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
    with pytest.raises(ManifestInvalid, match=r"m.parquet cannot be read: .*UTF8"):
        read_manifest(str(tmp_path / "m.parquet"))


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


def test_long_data_urls_are_not_read_all_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "m.parquet")
    pq.write_table(of_cells(130, data_url(bytes(2**19))), path, use_dictionary=False)
    plan = read_manifest(path)
    assert max(len(chunk) for chunk in plan["image_sha256"].chunks) < 100
    assert len(plan) == 130 and plan["image_sha256"].null_count == 0


MARKED = {b"ARROW:extension:name": b"example.tensor"}


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (pa.field("seed", pa.bool_()), '"seed" is bool; it must be a number'),
        (pa.field("num_images", pa.list_(pa.int32())), '"num_images" is list'),
        (pa.field("size", pa.int64()), '"size" is int64; it must be text'),
        (pa.field("restore_size", pa.timestamp("s")), '"restore_size" is timestamp'),
        (pa.field("prompt", pa.int64()), '"prompt" is int64; it must be text'),
        (pa.field("input_image", pa.int64()), '"input_image" is int64; it must be text (path'),
        (pa.field("image", pa.list_(pa.binary())), '"image" is list'),
        (pa.field("image", pa.struct([("url", pa.string())])), '"image" is struct'),
        (pa.field("id", pa.float64()), '"id" is double; it must be text or whole'),
        (pa.field("id", pa.uuid()), '"id" has the extension type arrow.uuid'),
        (pa.field("any", pa.binary(), metadata=MARKED), "extension type example.tensor"),
        (
            pa.field("any", pa.struct([pa.field("in", pa.binary(), metadata=MARKED)])),
            '"any" has the extension type example.tensor',
        ),
    ],
)
def test_a_column_of_a_wrong_type_is_refused_by_name(
    tmp_path: Path, column: pa.Field, says: str
) -> None:
    meaning = {"prompt": "instruction", "input_image": "image"}.get(column.name, column.name)
    fields = [pa.field("image", pa.string()), pa.field("instruction", pa.string())]
    schema = pa.schema([*(field for field in fields if field.name != meaning), column])
    pq.write_table(schema.empty_table(), tmp_path / "m.parquet")
    with pytest.raises(ManifestInvalid) as raised:
        read_manifest(str(tmp_path / "m.parquet"))
    assert f"{tmp_path / 'm.parquet'}: column" in raised.value.message
    assert says in raised.value.message


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
    assert "got 'x'" in fault(plan["options"][0].as_py()).message


@pytest.mark.parametrize(
    ("cells", "code", "says"),
    [
        ({"instruction": ["a"]}, "instruction_empty", 'instruction must be text; got ["a"]'),
        ({"image": 5}, "image_missing", "image must be a path or URI; got 5"),
        ({"seed": True}, "option_invalid", "seed: must be a valid integer"),
        ({"seed": [1]}, "option_invalid", "seed: must be a valid integer"),
        ({"size": 64}, "option_invalid", "size: must be a valid string"),
    ],
)
def test_a_cell_of_a_wrong_type_is_its_rows_own_fault(
    tmp_path: Path, cells: dict[str, Any], code: str, says: str
) -> None:
    lines = [{"image": "x.jpg", "instruction": "add fog", **cells}]
    plan = read_manifest(write_lines(tmp_path / "m.jsonl", lines))
    found = fault(plan["options"][0].as_py())
    assert found.code == code and says in found.message


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([{"id": {}, "image": "x", "instruction": "y"}], "line 1: id must be text or a whole"),
        ([batch_line("a", "x") | {"url": "/v1/responses"}], "line 1: url must be /v1/images/edits"),
        ([batch_line("a", "x"), {"body": {}}], "line 2: method must be POST"),
        ([batch_line("a", "x") | {"custom_id": 5}], "line 1: custom_id must be text"),
        ([batch_line("a", "x"), batch_line("a", "y")], "ids must be unique; these are not: a"),
        ([{"images": "a", "conversations": [], "sceduler": "ddim"}], 'Did you mean "scheduler"'),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path: Path, lines: list[Any], says: str) -> None:
    with pytest.raises(ManifestInvalid, match=says):
        read_manifest(write_lines(tmp_path / "m.jsonl", lines))


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
    (tmp_path / "m.xlsx").write_bytes(b"PK\x03\x04")
    with pytest.raises(ManifestInvalid, match=r"m.xlsx cannot be read: a manifest ends in"):
        read_manifest(str(tmp_path / "m.xlsx"))
    pq.write_table(pa.table({"image": ["x"], "instruction": ["y"]}), tmp_path / "part-0")
    assert len(read_manifest(str(tmp_path / "part-0"))) == 1


class Reads(io.RawIOBase):
    """A file that counts how often it is read, as one in storage is: each time costs a block."""

    def __init__(self, data: bytes) -> None:
        self._file, self.count = io.BytesIO(data), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.count += 1
        return self._file.readinto(buffer)


def test_lines_are_not_read_one_by_one() -> None:
    line = {"image": "x.jpg", "instruction": "add fog"}
    source = Reads(
        b"".join(json.dumps({"id": f"{i}", **line}).encode() + b"\n" for i in range(999))
    )
    assert len(read_jsonl(source, "m.jsonl").rows) == 999  # type: ignore[arg-type]
    assert source.count < 5


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
    with pytest.raises(ManifestInvalid, match="line 2: a CSV holds no images"):
        read_manifest(str(tmp_path / "m.csv"))
