"""Three formats are taken, five more where an operator asks for them; a file says what it is."""

from __future__ import annotations

import sys

import numpy as np
import pillow_heif
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from batch_jobs.config import JobConfig
from engine import errors
from engine.config import load_config
from engine.formats import OPTIONAL_FORMATS, check_accept
from engine.images import decode
from serve_app.config import ServeConfig
from tests.conftest import photograph
from tests.engine.files import profile, saved

COFFEE = Image.fromarray(photograph("coffee")).resize((96, 64))
SMALL = Image.new("RGB", (16, 16), (10, 200, 30))
pillow_heif.register_heif_opener()
FILES = {name: saved(COFFEE, format) for name, format in OPTIONAL_FORMATS.items()}


@pytest.mark.parametrize("name", list(OPTIONAL_FORMATS))
def test_a_format_is_taken_where_it_is_asked_for_and_named_where_not(name: str) -> None:
    format = OPTIONAL_FORMATS[name]
    data = saved(COFFEE, format)
    with pytest.raises(errors.ImageUnsupported, match=f"a {format} image; send JPEG, PNG or WebP"):
        decode(data)
    with pytest.raises(errors.ImageUnsupported):
        decode(data, accept=set(OPTIONAL_FORMATS) - {name})
    check_accept((name,))
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
        check_accept(("psd",))


def test_where_its_decoder_is_not_installed_heic_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for config in (ServeConfig, JobConfig):
        assert load_config(None, config, accept=["gif"]).accept == ("gif",)
        with pytest.raises(errors.OptionInvalid, match=r'pip install "rayedit\[heic\]"'):
            load_config(None, config, accept=["heic"])


@pytest.mark.parametrize("name", list(OPTIONAL_FORMATS))
def test_the_bounds_hold_for_a_format_that_is_asked_for(name: str) -> None:
    cases: list[tuple[tuple[int, int], type[errors.ImageError]]] = [
        ((15, 32), errors.ImageTooSmall),
        ((16, 272), errors.ImageTooNarrow),
        ((12_001, 64), errors.ImageTooLarge),
    ]
    if name in ("bmp", "gif", "tiff"):  # the others take minutes to write one
        cases.append(((7_100, 7_100), errors.ImageTooLarge))
    for size, refused in cases:
        mode = "RGB" if name in ("avif", "heic") else "1"
        data = saved(Image.new(mode, size), OPTIONAL_FORMATS[name])
        with pytest.raises(refused):
            decode(data, accept=[name])


def test_the_content_decides_and_never_the_name_or_what_stands_behind_it() -> None:
    gif = saved(SMALL, "GIF")
    for data in (gif + saved(SMALL, "PNG"), b"GIF89a" + saved(SMALL, "PNG")):
        with pytest.raises(errors.ImageUnsupported, match="a GIF image"):
            decode(data)
    with pytest.raises(errors.ImageUnreadable):
        decode(b"GIF89a" + saved(SMALL, "PNG"), accept=["gif"])


@given(
    name=st.sampled_from(list(OPTIONAL_FORMATS)),
    place=st.floats(0, 1, exclude_max=True),
    flip=st.integers(1, 255),
)
@example(name="heic", place=0.0546875, flip=1)  # of which libheif says two lines
@hypothesis_settings(max_examples=150)
def test_a_wrong_byte_in_an_optional_format_is_an_edit_or_one_clear_refusal(
    name: str, place: float, flip: int
) -> None:
    file = FILES[name]
    at = int(place * len(file))
    try:
        decoded = decode(file[:at] + bytes((file[at] ^ flip,)) + file[at + 1 :], accept=[name])
    except errors.ImageError as error:
        assert "\n" not in error.message
        return
    assert decoded.image.mode == "RGB"


@pytest.mark.parametrize("name", list(OPTIONAL_FORMATS))
def test_a_cut_file_of_an_optional_format_is_refused(name: str) -> None:
    data = saved(COFFEE, OPTIONAL_FORMATS[name])
    with pytest.raises((errors.ImageTruncated, errors.ImageUnreadable)):
        decode(data[: len(data) // 2], accept=[name])
