"""Any folder of photographs does: what cannot be read is named, and the rest is used."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from training.crops import CropSampler
from training.photographs import load_photographs, prepare

COFFEE = Image.fromarray(skimage.data.coffee())  # 600 x 400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four photographs at two depths, and three files that are none."""
    shoots = tmp_path / "shoots"
    (shoots / "2026" / "夜 1").mkdir(parents=True)
    COFFEE.save(shoots / "a.JPG")
    COFFEE.resize((1500, 1000)).save(shoots / "2026" / "large.png")
    COFFEE.convert("L").save(shoots / "2026" / "夜 1" / "grey.webp")
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn to the right makes it upright
    COFFEE.save(shoots / "2026" / "夜 1" / "portrait.jpeg", exif=turned)
    whole = io.BytesIO()
    COFFEE.save(whole, "JPEG")
    (shoots / "cut.jpg").write_bytes(whole.getvalue()[:9000])
    (shoots / "note.png").write_bytes(b"not a picture")
    COFFEE.resize((60, 40)).save(shoots / "2026" / "thumbnail.jpg")
    (shoots / "list.txt").write_text("a.JPG")
    return shoots


def test_photographs_of_any_size_and_depth_are_read_and_broken_files_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photographs = load_photographs(folder)
    sizes = [(p.shape[1], p.shape[0]) for p in photographs]
    assert sizes == [(960, 640), (600, 400), (400, 600), (600, 400)]
    assert all(p.dtype == np.uint8 and p.shape[2] == 3 for p in photographs)
    left_out = capsys.readouterr().err.splitlines()
    names = [folder / name for name in ("2026/thumbnail.jpg", "cut.jpg", "note.png")]
    assert [line.partition(" is left out: ")[0] for line in left_out] == list(map(str, names))
    assert CropSampler(photographs, seed=0).batch(4, 64).shape == (4, 64, 64, 3)


def test_they_are_written_small_and_once(folder: Path, tmp_path: Path) -> None:
    """Two of the four are one picture in two sizes."""
    written = tmp_path / "small"
    count = prepare(folder, written)
    assert count == len(list(written.glob("*.png"))) == 3
    assert max(p.shape[0] for p in load_photographs(written)) == 640


@pytest.mark.parametrize("name", ["none", "empty"])
def test_a_folder_without_a_photograph_is_one_clear_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match=f"{name} holds no photograph that can be read: .jpeg"):
        load_photographs(tmp_path / name)
