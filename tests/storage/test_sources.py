"""A source image is read from where a manifest may point, and from nowhere else."""

from __future__ import annotations

import base64
import os
import unicodedata
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


NIGHT = "夜 Ä #1%.png"


@pytest.fixture
def night(tmp_path: Path) -> Path:
    path = tmp_path / NIGHT
    path.write_bytes(b"night")
    return path


def test_a_uri_that_python_writes_is_read(night: Path) -> None:
    uri = night.as_uri()
    assert "%E5%A4%9C%20" in uri
    assert read_source(uri) == b"night"
    assert read_source(uri.replace("file://", "FILE://localhost")) == b"night"
    assert read_source(f"file://{night}") == b"night"
    assert read_source(uri, root=str(night.parent)) == b"night"


def test_a_percent_sign_in_the_name_of_a_file_means_itself(tmp_path: Path) -> None:
    (tmp_path / "a%20b.png").write_bytes(b"percent")
    assert read_source(f"file://{tmp_path}/a%20b.png") == b"percent"
    (tmp_path / "c d.png").write_bytes(b"space")
    assert read_source(f"file://{tmp_path}/c%20d.png") == b"space"
    with pytest.raises(ImageNotFound):
        read_source(str(tmp_path / "c%20d.png"))  # of a path nothing is decoded


def test_a_file_of_another_machine_is_refused(night: Path) -> None:
    with pytest.raises(ImageSourceRefused, match="of the machine nas; write file:///path"):
        read_source(f"file://nas{night}")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_an_accent_is_found_however_it_was_typed(tmp_path: Path, form: str) -> None:
    written, asked = ("NFD", "NFC") if form == "NFC" else ("NFC", "NFD")
    name = unicodedata.normalize(written, "café ど.png")
    other = unicodedata.normalize(asked, name)
    assert other != name
    (tmp_path / name).write_bytes(b"accent")
    assert read_source(other, str(tmp_path)) == b"accent"
    fsspec.filesystem("memory").pipe_file(f"/accents/{name}", b"stored")
    assert read_source(other, "memory://accents") == b"stored"
    (tmp_path / other).write_bytes(b"the very one")
    assert read_source(other, str(tmp_path)) == b"the very one"


def test_a_scheme_may_be_written_large() -> None:
    fsspec.filesystem("memory").pipe_file("/shelf/a.png", b"shelved")
    assert read_source("MEMORY://shelf/a.png") == b"shelved"


def test_a_chain_of_storages_is_a_name(folder: Path) -> None:
    with pytest.raises(ImageNotFound):
        read_source(f"memory://none::file://{folder}/a.png")


def test_names_that_no_file_can_have_are_not_found(tmp_path: Path) -> None:
    (tmp_path / "loop.png").symlink_to("loop.png")
    for source in ("x" * 300 + ".png", "loop.png", "loop.png/a.png", "y/" * 3000 + "a.png"):
        for root in (None, str(tmp_path)):
            with pytest.raises(ImageNotFound):
                read_source(source, str(tmp_path), root)


def test_an_image_as_text_is_not_repeated_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(ImageNotFound, match="if it is base64, write it as data:image") as caught:
        read_source(base64.b64encode(bytes(2500)).decode(), str(tmp_path))
    assert len(caught.value.message) < 250 and "3,336 characters" in caught.value.message


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for source in ("pipe.png", "/dev/zero"):
        with pytest.raises(ImageSourceRefused, match="device, pipe or socket"):
            read_source(source, str(tmp_path))


def test_a_hidden_nul_is_refused() -> None:
    with pytest.raises(ImageSourceRefused, match="NUL"):
        read_source("file:///tmp/a%00.png")
