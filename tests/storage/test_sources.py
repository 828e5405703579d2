"""A source image is read from where a manifest may point, and from nowhere else."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from engine.errors import EngineError, ImageNotFound, ImageSourceRefused, ImageTooLarge
from engine.images import MAX_BYTES
from storage.sources import read_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A root with a file, an innocent symlink, one that leads out, and a secret beside it."""
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(b"secret")
    (root / "a.png").write_bytes(b"a")
    (root / "in" / "two::parts.png").write_bytes(b"parts")
    (root / "same.png").symlink_to("a.png")
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    return root


def test_a_relative_path_starts_from_the_base(folder: Path) -> None:
    assert read_source("a.png", str(folder)) == b"a"
    assert read_source(str(folder / "a.png"), "/elsewhere") == b"a"
    assert read_source(f"file://{folder}/a.png", "/elsewhere") == b"a"


def test_a_relative_path_starts_from_a_base_in_storage() -> None:
    fsspec.filesystem("memory").pipe_file("/shelf/a.png", b"shelved")
    assert read_source("a.png", "memory://shelf/") == b"shelved"


def test_colons_in_a_name_are_a_part_of_it(folder: Path) -> None:
    assert read_source("in/two::parts.png", str(folder)) == b"parts"


@pytest.mark.parametrize("source", ["a.png", "in/../a.png", "same.png"])
def test_what_lies_in_the_root_is_read(folder: Path, source: str) -> None:
    assert read_source(source, str(folder), root=str(folder)) == b"a"


@pytest.mark.parametrize(
    "source", ["../secret.png", "out.png", "memory://shelf/a.png", "FILE:///etc/hostname"]
)
def test_nothing_outside_of_the_root_is_read(folder: Path, source: str) -> None:
    with pytest.raises(ImageSourceRefused, match="is outside the image root"):
        read_source(source, str(folder), root=str(folder))


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("none.png", ImageNotFound, "none.png: No such file"),
        ("in", ImageNotFound, "in: Is a directory"),
        ("a.png/b.png", ImageNotFound, "Not a directory"),
        ("a\0.png", ImageSourceRefused, "NUL"),
        ("https://host/a.png", ImageSourceRefused, "https:// is not fetched.* s3://, gs://, hf://"),
        ("simplecache::https://host/a.png", ImageSourceRefused, "is not fetched"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(
    folder: Path, source: str, error: type[EngineError], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_source(source, str(folder))


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path: Path) -> None:
    with open(tmp_path / "large.png", "wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ImageTooLarge, match=r"large\.png has more than 26,214,400 bytes"):
        read_source("large.png", str(tmp_path))
