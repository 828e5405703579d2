"""A location means one thing, however its scheme, host, accents and percents are written."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from batch_jobs.manifest.files import find_files
from batch_jobs.manifest.plan import base_of
from storage.location import absolute, normalized, spellings


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
    assert find_files((folder / "m.csv").as_uri()) == [str(folder / "m.csv")]
    assert base_of((folder / "m.csv").as_uri()) == str(folder)
    fsspec.filesystem("memory").pipe_file("/shelf/m.csv", b"image,instruction\n")
    assert find_files("MEMORY://shelf/m.csv") == ["memory:///shelf/m.csv"]
