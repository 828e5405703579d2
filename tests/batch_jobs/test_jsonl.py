"""JSONL manifests: what is wrong with a line, and how lines are read."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from batch_jobs.manifest.jsonl import read_jsonl
from batch_jobs.manifest.plan import read_manifest
from batch_jobs.manifest.reading import Reading
from engine.errors import InstructionEmpty, ManifestInvalid
from engine.wire import EditBody
from tests.batch_jobs.shapes import batch_line, fault, planned, write_lines


@pytest.mark.parametrize(
    ("cells", "code", "says"),
    [
        ({"instruction": [5]}, "instruction_empty", "instruction must be text; got 5"),
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
    found = fault(planned(plan)[0])
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
    assert len(read_jsonl(source, "m.jsonl", Reading()).rows) == 999  # type: ignore[arg-type]
    assert source.count < 5


@pytest.mark.parametrize("half", ["\ud83d", "make it \ude00 night"])
def test_half_a_character_is_refused_as_the_server_refuses_it(tmp_path: Path, half: str) -> None:
    lines = [
        {"image": "a.jpg", "instruction": half},
        {"image": half, "instruction": "make it night"},
        {"image": "a.jpg", "instruction": "make it night", "negative_prompt": half},
        {"image": "a.jpg", "instruction": "add \ud83d\ude00"},
    ]
    plan = read_manifest(write_lines(tmp_path / "columns.jsonl", lines))
    instruction, image, option, whole = planned(plan)
    request = batch_line("a", "a.jpg", prompt=half)
    (batch,) = planned(read_manifest(write_lines(tmp_path / "batch.jsonl", [request])))
    with pytest.raises(InstructionEmpty) as online:
        EditBody.parse({"prompt": half}).instruction()
    for row in (instruction, batch):
        found = fault(row)
        assert (found.code, found.message) == (online.value.code, online.value.message)
    assert (fault(image).code, fault(image).param) == ("image_not_found", "image")
    assert (fault(option).code, fault(option).param) == ("option_invalid", "negative_prompt")
    assert whole.instruction == "add 😀"
    named = [{"id": half, "image": "a.jpg", "instruction": "make it night"}]
    with pytest.raises(ManifestInvalid, match="line 1: id is not valid Unicode"):
        read_manifest(write_lines(tmp_path / "named.jsonl", named))


def test_lines_may_call_a_column_by_different_names(tmp_path: Path) -> None:
    lines = [
        {"image": "a.jpg", "prompt": "one"},
        {"source_image": "b.jpg", "instruction": "two"},
        {"image": "c.jpg", "edit_prompt": ["long", "three"]},
    ]
    plan = read_manifest(write_lines(tmp_path / "m.jsonl", lines))
    assert plan["image"].to_pylist() == ["a.jpg", "b.jpg", "c.jpg"]
    assert plan["instruction"].to_pylist() == ["one", "two", "three"]
    both = [*lines, {"image": "d.jpg", "prompt": "x", "instruction": "y"}]
    says = "line 4: two columns for instruction: prompt and instruction"
    with pytest.raises(ManifestInvalid, match=says):
        read_manifest(write_lines(tmp_path / "m.jsonl", both))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ('{"image": "夜景"}'.encode("gbk"), "line 1: byte 0xbe is not UTF-8.*iconv -f GB18030"),
        ('{"image": "a"}\n'.encode("utf-16"), "line 1: this is UTF-16, and JSON is UTF-8"),
        ('{"image": "a"}\n'.encode("utf-16-be"), "line 1: this is UTF-16"),
        (b'{"method": "POST", "url": "/v1/images/edits", "body": {}}', "custom_id must be text"),
    ],
)
def test_the_encoding_and_the_key_that_are_wrong_are_named(
    tmp_path: Path, data: bytes, says: str
) -> None:
    (tmp_path / "m.jsonl").write_bytes(data)
    with pytest.raises(ManifestInvalid, match=says):
        read_manifest(str(tmp_path / "m.jsonl"))
