"""A location means one thing, however its scheme, host, accents and percents are written."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from batch_jobs.manifest.files import find_files
from batch_jobs.manifest.plan import base_of, has_relative
from batch_jobs.manifest.planned import PLAN
from storage.location import absolute, is_relative, normalized, spellings


@pytest.mark.parametrize(
    ("location", "meaning"),
    [
        ("S3://Bucket/Key.PNG", "s3://Bucket/Key.PNG"),
        ("photos/a%20b.png", "photos/a%20b.png"),
        ("file:///none/a%20b.png", "/none/a b.png"),
        ("FILE://LocalHost/none/%E5%A4%9C.png", "/none/夜.png"),
        ("file://nas/a%20b.png", "file://nas/a%20b.png"),
    ],
)
def test_a_location_is_spelled_as_fsspec_reads_it(location: str, meaning: str) -> None:
    assert normalized(location) == normalized(meaning) == meaning
    assert absolute(location) == (meaning if "://" in meaning else str(Path(meaning).absolute()))


def test_an_accent_has_two_spellings_and_a_name_without_one_has_one() -> None:
    assert spellings("a.png") == ["a.png"]
    assert len(spellings("\u00e9.png")) == len(spellings("e\u0301.png")) == 2
    assert spellings("e\u0301 \u00e9")[0] == "e\u0301 \u00e9"


def test_a_manifest_is_found_by_its_uri(tmp_path: Path) -> None:
    folder = tmp_path / "夜 1"
    folder.mkdir()
    (folder / "m.csv").write_text("image,instruction\na.png,make it night\n")
    assert find_files((folder / "m.csv").as_uri()).files == [str(folder / "m.csv")]
    assert base_of((folder / "m.csv").as_uri()) == str(folder)
    fsspec.filesystem("memory").pipe_file("/shelf/m.csv", b"image,instruction\n")
    assert find_files("MEMORY://shelf/m.csv").files == ["memory:///shelf/m.csv"]


@pytest.mark.parametrize(
    "location",
    ["a.png", "../a.png", "a:b.png", "file:a", "/a.png", "s3://b/a.png", "S3://b", "ä://b"],
)
def test_a_plan_is_relative_where_one_of_its_locations_is(location: str) -> None:
    def plan(image: str | None, mask: str | None) -> pa.Table:
        return pa.Table.from_pylist([{"image": image, "mask": mask}], schema=PLAN)

    assert has_relative(plan(location, None)) is is_relative(location)
    assert has_relative(plan("/a.png", location)) is is_relative(location)
    assert not has_relative(plan(None, None))
