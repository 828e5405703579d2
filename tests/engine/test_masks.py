"""A mask keeps every byte that it covers, from OpenAI's PNG to the latents."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from engine.errors import MaskInvalid
from engine.geometry import Geometry, plan_geometry
from engine.masks import (
    composite,
    decode_mask,
    mask_to_canvas,
    mask_to_latents,
    mask_to_output,
)
from engine.options import EditOptions
from engine.registry import MODELS

POCKET = MODELS["pocket"]
SIZE = (40, 30)


def saved(image: Image.Image, format: str = "PNG", **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **settings)
    return buffer.getvalue()


def with_alpha(alpha: np.ndarray, mode: str = "RGBA") -> Image.Image:
    """A picture with this alpha, (H, W) uint8, as OpenAI's clients make one."""
    image = Image.new("RGB", alpha.shape[::-1], "red").convert(mode)
    image.putalpha(Image.fromarray(alpha))
    return image


def half_clear() -> np.ndarray:
    """Opaque, but for the left half."""
    alpha = np.full(SIZE[::-1], 255, np.uint8)
    alpha[:, :20] = 0
    return alpha


def deep(colour_type: int, channels: int) -> bytes:
    """A PNG of 16 bits a channel, all 0."""
    header = struct.pack(">IIBBBBB", *SIZE, 16, colour_type, 0, 0, 0)
    rows = zlib.compress(bytes((1 + 2 * channels * SIZE[0]) * SIZE[1]))
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def clear_palette() -> bytes:
    image = Image.new("P", SIZE, 0)
    image.putpalette([255, 0, 0, 0, 255, 0] + [0] * 762)
    image.paste(1, (0, 0, 20, 30))
    return saved(image, transparency=1)


def bomb(side: int) -> bytes:
    """A small RGBA PNG of a great many equal pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def frames() -> bytes:
    images = [with_alpha(half_clear()), with_alpha(255 - half_clear())]
    return saved(images[0], save_all=True, append_images=images[1:])


def test_transparent_is_edited_and_opaque_is_kept() -> None:
    alpha = half_clear()
    alpha[0, 0] = 55
    mask = decode_mask(saved(with_alpha(alpha)), SIZE)
    assert mask.shape == (30, 40) and mask.dtype == np.uint8
    assert mask[0, 0] == 200 and mask[5, 5] == 255 and mask[5, 30] == 0


def test_a_grey_mask_with_alpha_is_one_too() -> None:
    grey = with_alpha(half_clear(), "L")
    assert grey.mode == "LA"
    assert np.array_equal(decode_mask(saved(grey), SIZE), 255 - half_clear())


def test_a_mask_is_turned_as_its_camera_says() -> None:
    image = with_alpha(half_clear())
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(image.transpose(Image.Transpose.ROTATE_90), exif=exif)
    assert np.array_equal(decode_mask(data, SIZE), 255 - half_clear())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no image"),
        (b"a mask", "no image"),
        (saved(with_alpha(half_clear()).convert("RGB"), "JPEG"), "the mask is JPEG and no PNG"),
        (saved(with_alpha(half_clear()), "WEBP", lossless=True), "the mask is WEBP and no PNG"),
        (saved(with_alpha(half_clear()))[:-40], "cannot be read: the PNG ends after"),
        (saved(with_alpha(np.zeros((30, 41), np.uint8))), "41x30 px and the image 40x30 px"),
        (saved(with_alpha(np.zeros((40, 30), np.uint8))), "30x40 px and the image 40x30 px"),
        (saved(with_alpha(half_clear()).convert("RGB")), "no alpha channel"),
        (saved(Image.new("L", SIZE)), "no alpha channel"),
        (saved(with_alpha(np.full((30, 40), 255, np.uint8))), "opaque everywhere"),
        (saved(with_alpha(np.zeros((30, 40), np.uint8))), "transparent everywhere"),
        (deep(colour_type=6, channels=4), "16 bits a channel"),
        (deep(colour_type=4, channels=2), "16 bits a channel"),
        (clear_palette(), "a palette in place of an alpha channel"),
        (frames(), "2 frames"),
        (bomb(5000), "5000x5000 px and the image 40x30 px"),
        (bomb(100_000), "cannot be read"),
        (b"\x89PNG\r\n\x1a\n" + bytes(25 * 2**20), "at most 26,214,400"),
    ],
)
def test_a_mask_that_is_none_is_refused_in_one_line_of_its_own(data: bytes, message: str) -> None:
    with pytest.raises(MaskInvalid, match=message) as caught:
        decode_mask(data, SIZE)
    assert caught.value.param == "mask" and "\n" not in caught.value.message


def test_where_the_mask_is_opaque_every_byte_is_the_sources() -> None:
    source, edited = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    mask = np.random.default_rng(1).choice(np.array([0, 1, 127, 254, 255], np.uint8), (64, 64))
    mixed = composite(source, edited, mask)
    assert np.array_equal(mixed[mask == 0], source[mask == 0])
    assert np.array_equal(mixed[mask == 255], edited[mask == 255])
    between = source + (edited.astype(float) - source) * (mask / 255)[..., None]
    assert np.abs(mixed - between).max() <= 0.5


def test_a_soft_mask_never_leaves_the_range_of_its_two_pictures() -> None:
    values = np.arange(256, dtype=np.uint8)
    source, edited, mask = (grid.reshape(1, -1) for grid in np.meshgrid(values, values, values))
    low, high = np.minimum(source, edited), np.maximum(source, edited)
    mixed = composite(np.stack([source] * 3, -1), np.stack([edited] * 3, -1), mask)[..., 0]
    assert ((low <= mixed) & (mixed <= high)).all()


def geometry_of(resize: str, restore: bool, size: tuple[int, int]) -> Geometry:
    return plan_geometry(size, EditOptions(resize=resize, restore_size=restore), POCKET)


@given(
    width=st.integers(16, 700),
    height=st.integers(16, 700),
    resize=st.sampled_from(["fit", "crop", "pad"]),
    restore=st.booleans(),
    seed=st.integers(0, 99),
)
def test_no_stroke_is_too_thin_for_the_canvas(
    width: int, height: int, resize: str, restore: bool, seed: int
) -> None:
    if max(width, height) > 16 * min(width, height) or (restore and resize == "crop"):
        return
    geometry = geometry_of(resize, restore, (width, height))
    mask = np.zeros((height, width), np.uint8)
    random = np.random.default_rng(seed)
    left, top, right, bottom = geometry.box
    row = int(random.integers(int(np.ceil(top)), int(bottom)))
    column = int(random.integers(int(np.ceil(left)), int(right)))
    mask[row, column] = 255
    canvas = mask_to_canvas(mask, geometry)
    around = np.add(geometry.padding[:2], geometry.padding[2:])
    assert canvas.shape == tuple(np.add(geometry.inner, around))[::-1]
    # One pixel of a source that shrinks is never lost; of one that grows some pixel may show it.
    if geometry.inner[0] <= right - left and geometry.inner[1] <= bottom - top:
        assert canvas.max() == 255
        assert mask_to_latents(canvas, 8).max() == 1
    pad_left, pad_top = geometry.padding[:2]
    rows, columns = np.nonzero(canvas)
    scale = (right - left) / geometry.inner[0], (bottom - top) / geometry.inner[1]
    assert (np.abs((columns - pad_left + 0.5) * scale[0] + left - column) <= scale[0] + 1).all()
    assert (np.abs((rows - pad_top + 0.5) * scale[1] + top - row) <= scale[1] + 1).all()


def test_padding_is_never_edited() -> None:
    geometry = geometry_of("pad", False, (300, 100))
    canvas = mask_to_canvas(np.full((100, 300), 255, np.uint8), geometry)
    top, bottom = geometry.padding[1], geometry.padding[3]
    assert top > 0 and not canvas[:top].any() and not canvas[-bottom:].any()
    assert (canvas[top:-bottom] == 255).all()


def test_a_latent_is_edited_as_much_as_the_most_edited_of_its_pixels() -> None:
    mask = np.zeros((16, 24), np.uint8)
    mask[7, 8], mask[8, 23] = 51, 255
    latents = mask_to_latents(mask, 8)
    assert latents.dtype == np.float32
    assert np.array_equal(latents, np.array([[0, 0.2, 0], [0, 0, 1]], np.float32))


def test_the_results_mask_has_the_results_size() -> None:
    mask = np.zeros((300, 500), np.uint8)
    mask[100:200, 100:300] = 255
    assert mask_to_output(mask, geometry_of("fit", True, (500, 300))) is mask
    for resize in ("fit", "crop", "pad"):
        geometry = geometry_of(resize, False, (500, 300))
        assert mask_to_output(mask, geometry).shape == geometry.output[::-1]
