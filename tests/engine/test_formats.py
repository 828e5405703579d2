"""Three formats are taken, five more where an operator asks for them; a file says what it is."""

from __future__ import annotations

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from engine import errors
from engine.formats import OPTIONAL_FORMATS, check_accept
from engine.images import decode
from tests.conftest import photograph
from tests.engine.files import profile, saved

COFFEE = Image.fromarray(photograph("coffee")).resize((96, 64))
SMALL = Image.new("RGB", (16, 16), (10, 200, 30))


@pytest.fixture(scope="module", autouse=True)
def heif() -> None:
    pillow_heif.register_heif_opener()


@pytest.mark.parametrize("name", list(OPTIONAL_FORMATS))
def test_a_format_is_taken_where_it_is_asked_for_and_named_where_not(name: str) -> None:
    format = OPTIONAL_FORMATS[name]
    data = saved(COFFEE, format)
    with pytest.raises(errors.ImageUnsupported, match=f"a {format} image; send JPEG, PNG or WebP"):
        decode(data)
    with pytest.raises(errors.ImageUnsupported):
        decode(data, accept=set(OPTIONAL_FORMATS) - {name})
    check_accept([name])
    decoded = decode(data, accept=[name])
    assert decoded.warnings == []
    near = np.abs(np.asarray(decoded.image).astype(int) - np.asarray(COFFEE)).mean()
    assert near < (12 if name == "gif" else 6)  # 256 colours; a lossy codec at 75


def test_of_an_animated_gif_the_first_frame_is_taken_with_a_warning() -> None:
    data = saved(SMALL, "GIF", save_all=True, append_images=[Image.new("RGB", (16, 16), "red")])
    decoded = decode(data, accept=["gif"])
    assert decoded.warnings == ["first_frame_only"]
    assert decoded.image.getpixel((3, 3)) == (10, 200, 30)


def test_an_animated_avif_is_refused_as_other_animations_are() -> None:
    data = saved(SMALL, "AVIF", save_all=True, append_images=[Image.new("RGB", (16, 16), "red")])
    with pytest.raises(errors.ImageAnimated):
        decode(data, accept=["avif"])


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I;16B"]
)
def test_a_tiff_of_every_usual_kind_has_its_colours(mode: str) -> None:
    if mode.startswith("I"):
        image = Image.fromarray(np.full((16, 16), 100 * 257, np.uint16))
        image = image if mode == "I;16" else Image.frombytes("I;16B", (16, 16), b"\x64\x64" * 256)
    else:
        image = Image.new("RGB", (16, 16), (100, 100, 100)).convert(
            mode, dither=0, palette=Image.Palette.ADAPTIVE
        )
    pixels = np.asarray(decode(saved(image, "TIFF"), accept=["tiff"]).image).astype(int)
    assert (abs(pixels - (0 if mode == "1" else 100)) <= 1).all()


def test_a_tiff_of_another_kind_is_refused_by_its_mode() -> None:
    data = saved(Image.fromarray(np.zeros((16, 16), np.float32)), "TIFF")
    with pytest.raises(errors.ImageUnsupported, match="mode F"):
        decode(data, accept=["tiff"])


def test_the_colour_profile_of_an_optional_format_counts() -> None:
    for name, settings in (("tiff", {}), ("heic", {"quality": 100}), ("avif", {"quality": 100})):
        data = saved(
            Image.new("RGB", (16, 16), (55, 55, 55)),
            OPTIONAL_FORMATS[name],
            icc_profile=profile("RGB", 1.0, "sRGB linear"),
            **settings,
        )
        assert (abs(np.asarray(decode(data, accept=[name]).image).astype(int) - 128) <= 2).all(), (
            name
        )


def test_what_nobody_knows_cannot_be_asked_for() -> None:
    with pytest.raises(errors.OptionInvalid, match='"psd" is none of avif, bmp, gif, heic, tiff'):
        check_accept(["psd"])


@pytest.mark.parametrize("name", list(OPTIONAL_FORMATS))
def test_a_cut_file_of_an_optional_format_is_refused(name: str) -> None:
    data = saved(COFFEE, OPTIONAL_FORMATS[name])
    with pytest.raises((errors.ImageTruncated, errors.ImageUnreadable)):
        decode(data[: len(data) // 2], accept=[name])
