"""Colours come out as their profile says, whatever it calls itself; alpha goes over white."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from engine.images import decode
from tests.conftest import photograph
from tests.engine.files import (
    GREY,
    GREY_ALPHA,
    PALETTE,
    RGB,
    RGBA,
    chunk,
    png_of,
    profile,
    saved,
    srgb_of_light,
    with_profile,
)

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SHAPE = (16, 16)


def pixels_of(data: bytes, warnings: list[str] | None = None) -> np.ndarray:
    decoded = decode(data)
    assert decoded.warnings == (warnings or [])
    return np.asarray(decoded.image)


@pytest.mark.parametrize("name", ["GIMP built-in Linear sRGB", "sRGB-elle-V2-g10", "my sRGB"])
def test_linear_light_is_not_srgb_whatever_it_is_called(name: str) -> None:
    image = Image.new("RGB", SHAPE, (55, 55, 55))
    for format, settings in (("PNG", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 100})):
        data = saved(image, format, icc_profile=profile("RGB", 1.0, name), **settings)
        assert (pixels_of(data) == 128).all(), format


def test_pixels_in_true_srgb_are_not_touched_whatever_it_is_called() -> None:
    pixels = photograph("coffee")[:200, :200]
    renamed = SRGB.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    assert renamed != SRGB
    for srgb in (SRGB, renamed):
        assert np.array_equal(
            pixels_of(saved(Image.fromarray(pixels), "PNG", icc_profile=srgb)), pixels
        )
    shot = saved(Image.fromarray(pixels), "JPEG")
    tagged = saved(Image.fromarray(pixels), "JPEG", icc_profile=SRGB)
    assert np.array_equal(pixels_of(tagged), pixels_of(shot))


@pytest.mark.parametrize(
    ("depth", "colour_type", "value"),
    [
        (8, GREY, 55),
        (16, GREY, 55 * 257),
        (8, GREY_ALPHA, 55),
        (16, GREY_ALPHA, 55 * 257),
        (4, GREY, 3),
    ],
)
def test_grey_of_every_kind_goes_through_its_grey_profile(
    depth: int, colour_type: int, value: int
) -> None:
    samples = np.full((*SHAPE, 1), value)
    if colour_type == GREY_ALPHA:
        samples = np.concatenate([samples, np.full((*SHAPE, 1), 2**depth - 1)], -1)
    data = with_profile(png_of(samples, depth, colour_type), profile("GRAY", 1.0, "linear grey"))
    expected = 128 if depth > 4 else round(float(srgb_of_light(np.array(0.2))))
    assert (abs(pixels_of(data).astype(int) - expected) <= 1).all()


def test_sixteen_bits_of_linear_grey_give_more_than_the_eight_bit_steps() -> None:
    values = np.arange(256).reshape(SHAPE) * 4  # the darkest 1,024 of 65,536
    data = with_profile(png_of(values, 16, GREY), profile("GRAY", 1.0, "linear grey"))
    expected = srgb_of_light(values / 65535)
    assert (abs(pixels_of(data)[..., 0] - expected) <= 1.5).all()
    assert len(np.unique(pixels_of(data))) >= 30  # at 8 bits they would be 4


def test_a_colour_is_converted_before_it_is_laid_over_white() -> None:
    """As browsers do: half of linear 55 (sRGB 128) over white is 191, not what linear 155 is."""
    samples = np.full((*SHAPE, 4), (55, 55, 55, 128))
    data = with_profile(png_of(samples, 8, RGBA), profile("RGB", 1.0, "linear"))
    assert (abs(pixels_of(data, ["alpha_flattened"]).astype(int) - 191) <= 1).all()


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_grey_is_white_at_every_depth(depth: int) -> None:
    key, other = (1, 0) if depth == 1 else (2, 1)
    samples = np.full(SHAPE, other)
    samples[:8] = key
    data = png_of(samples, depth, GREY, chunk(b"tRNS", bytes((0, key))))
    pixels = pixels_of(data, ["alpha_flattened"])
    assert (pixels[:8] == 255).all()
    assert (pixels[8:] == round(other * 255 / (2**depth - 1))).all()


def test_of_a_transparent_colour_only_the_bits_of_a_sample_count() -> None:
    samples = np.full(SHAPE, 2)
    data = png_of(samples, 2, GREY, chunk(b"tRNS", b"\xff\xfe"))  # ...10: 2
    assert (pixels_of(data, ["alpha_flattened"]) == 255).all()
    samples = np.full((*SHAPE, 3), (1, 2, 3))
    data = png_of(samples, 8, RGB, chunk(b"tRNS", b"\xff\x01\xff\x02\xff\x03"))
    assert (pixels_of(data, ["alpha_flattened"]) == 255).all()


def test_a_transparent_colour_of_sixteen_bits_is_compared_at_sixteen_bits() -> None:
    samples = np.full((*SHAPE, 3), 0xFF00)
    samples[..., 1:] = 0
    samples[:8] = (0x01FF, 0x0100, 0x0100)
    samples[:4, 0] = (0x0100, 0x0100, 0x0100)  # the same in its high bytes
    data = png_of(samples, 16, RGB, chunk(b"tRNS", b"\x01\xff\x01\x00\x01\x00"))
    pixels = pixels_of(data, ["alpha_flattened"])
    assert (pixels[:8, 1:] == 255).all()
    assert (pixels[:4, 0] == 1).all()
    assert (pixels[8:] == (255, 0, 0)).all()


def test_only_what_is_not_opaque_is_told_of() -> None:
    samples = np.full((*SHAPE, 4), 255)
    assert (pixels_of(png_of(samples, 8, RGBA)) == 255).all()
    samples[3, 3, 3] = 254
    pixels_of(png_of(samples, 8, RGBA), ["alpha_flattened"])


def test_alpha_is_given_upright_where_it_is_asked_for() -> None:
    rgba = np.full((20, 30, 4), 200, np.uint8)
    rgba[..., 3] = np.arange(30) * 8
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(rgba), "PNG", exif=exif)
    alpha = decode(data, keep_alpha=True).alpha
    assert alpha is not None and np.array_equal(np.asarray(alpha), np.rot90(rgba[..., 3], -1))
    assert decode(data).alpha is None
    opaque = saved(Image.fromarray(np.full((20, 30, 4), 255, np.uint8)), "PNG")
    assert decode(opaque, keep_alpha=True).alpha is None


def test_a_profile_of_a_press_is_not_too_large() -> None:
    large = profile("RGB", 1.0, "linear") + bytes(2 * 2**20)
    large = len(large).to_bytes(4) + large[4:]
    for format in ("PNG", "JPEG"):
        data = saved(Image.new("RGB", SHAPE, (55, 55, 55)), format, icc_profile=large, quality=100)
        assert (pixels_of(data) == 128).all(), format
    larger = with_profile(png_of(np.zeros((*SHAPE, 3)), 8, RGB), bytes(5 * 2**20))
    assert (pixels_of(larger, ["icc_ignored"]) == 0).all()


KINDS = {"L": GREY, "LA": GREY_ALPHA, "P": PALETTE, "RGB": RGB, "RGBA": RGBA}


@given(
    mode=st.sampled_from(list(KINDS)),
    gamma=st.sampled_from([1.0, 1.4, 1.8, 2.6]),
    name=st.sampled_from(["sRGB", "Adobe RGB (1998)", "Dot Gain 20%", "c2"]),
    swapped=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_colours_are_those_of_littlecms_and_of_the_formula(
    mode: str, gamma: float, name: str, swapped: bool, seed: int
) -> None:
    """LittleCMS gets each colour alone, without alpha, palette or file; the formula is IEC's."""
    generator = np.random.default_rng(seed)
    channels = {"L": 1, "LA": 2, "P": 1}.get(mode, len(mode))
    samples = generator.integers(0, 256, (*SHAPE, channels))
    palette = generator.integers(0, 256, (256, 3)).astype(np.uint8)
    plte = [chunk(b"PLTE", palette.tobytes())] if mode == "P" else []
    is_grey = mode in ("L", "LA")
    icc = profile("GRAY" if is_grey else "RGB", gamma, name, swapped)
    decoded = decode(with_profile(png_of(samples, 8, KINDS[mode], *plte), icc))

    colours = palette[samples[..., 0]] if mode == "P" else samples[..., : 1 if is_grey else 3]
    colours = colours.astype(np.uint8)
    flat = Image.fromarray(colours[..., 0] if is_grey else colours)
    source, srgb = (ImageCms.ImageCmsProfile(io.BytesIO(data)) for data in (icc, SRGB))
    exactly = ImageCms.Flags.NOOPTIMIZE
    by_lcms = ImageCms.profileToProfile(flat, source, srgb, outputMode="RGB", flags=exactly)
    by_formula = srgb_of_light((colours / 255) ** gamma)
    if swapped and not is_grey:
        by_formula = by_formula[..., ::-1]
    opacity = samples[..., -1:] / 255 if mode in ("LA", "RGBA") else 1.0
    pixels = np.asarray(decoded.image)
    for expected in (np.asarray(by_lcms), np.broadcast_to(by_formula, (*SHAPE, 3))):
        over_white = expected * opacity + 255 * (1 - opacity)
        assert abs(pixels - over_white).max() <= 1.5
