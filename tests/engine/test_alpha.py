"""A transparent source gets its alpha back: over white it is the same picture, elsewhere too."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from engine.alpha import alpha_at_output, with_alpha
from engine.catalogue import MODELS
from engine.geometry import Geometry, from_canvas, plan_geometry, to_canvas
from engine.images import decode, encode
from engine.options import EditOptions
from tests.engine.files import saved

POCKET = MODELS["pocket"]


def over(colour: tuple[int, int, int], image: Image.Image) -> np.ndarray:
    """An RGBA image laid over one colour."""
    rgba = np.asarray(image).astype(float)
    share = rgba[..., 3:] / 255
    return rgba[..., :3] * share + np.array(colour) * (1 - share)


@given(st.integers(0, 2**32 - 1))
def test_over_white_it_is_the_picture_that_the_model_made(seed: int) -> None:
    generator = np.random.default_rng(seed)
    source = generator.integers(0, 256, (16, 24, 4)).astype(np.uint8)
    decoded = decode(saved(Image.fromarray(source), "PNG"), keep_alpha=True)
    assert decoded.alpha is not None
    back = with_alpha(decoded.image, decoded.alpha)
    assert np.array_equal(np.asarray(back)[..., 3], source[..., 3])
    assert np.abs(over((255, 255, 255), back) - np.asarray(decoded.image)).max() <= 1
    black = over((0, 0, 0), Image.fromarray(source))
    assert np.abs(over((0, 0, 0), back) - black).max() <= 2  # no white is left at the edges


@pytest.mark.parametrize("options", [EditOptions(restore_size=True), EditOptions(size="128x64")])
def test_alpha_follows_the_picture_to_its_size(options: EditOptions) -> None:
    """A disc in the middle: where the edit shows it, alpha is 255."""
    y, x = np.mgrid[:200, :300]
    disc = (y - 100) ** 2 + (x - 150) ** 2 < 60**2
    source = np.dstack([np.zeros((200, 300, 3), np.uint8), np.where(disc, 255, 0).astype(np.uint8)])
    decoded = decode(saved(Image.fromarray(source), "PNG"), keep_alpha=True)
    assert decoded.alpha is not None
    geometry: Geometry = plan_geometry(decoded.image.size, options, POCKET)
    edited = from_canvas(to_canvas(decoded.image, geometry), geometry)
    alpha = alpha_at_output(decoded.alpha, geometry)
    assert alpha.size == edited.size == geometry.output
    assert np.abs(255 - np.asarray(edited)[..., 0].astype(int) - np.asarray(alpha)).mean() < 2
    if options.restore_size:
        assert np.array_equal(np.asarray(alpha), source[..., 3])


@pytest.mark.parametrize("format", ["png", "webp"])
def test_png_and_webp_carry_it(format: str) -> None:
    layer = with_alpha(Image.new("RGB", (16, 16), "white"), Image.new("L", (16, 16), 77))
    read = Image.open(io.BytesIO(encode(layer, format)))
    assert read.mode == "RGBA" and read.getpixel((3, 3))[3] == 77
