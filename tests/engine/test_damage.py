"""A damaged file is refused, or told of; what is whole, or lacks no pixel, is not refused."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from engine import errors
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
    saved,
    with_chunk,
)

TEXTS = b"tEXt zTXt iTXt pHYs".split()
STEPS = np.arange(128, dtype=np.uint8)
GRADIENT = np.stack([*np.meshgrid(STEPS, STEPS), np.add.outer(STEPS, STEPS)], -1)
COFFEE = Image.fromarray(photograph("coffee")).resize((96, 64))


def chunks_of(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Kind and body of each chunk of a PNG, and whether its checksum is right: a reader of its
    own."""
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack(">I", data[at + 8 + length : at + 12 + length].rjust(4, b"\0"))
        yield kind, body, zlib.crc32(kind + body) == checksum
        at += 12 + length


def inverted(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 0xFF,)) + data[at + 1 :]


def outcome(data: bytes) -> tuple[np.ndarray, list[str]] | errors.ImageError:
    try:
        decoded = decode(data)
    except errors.ImageError as error:
        return error
    return np.asarray(decoded.image), decoded.warnings


def test_one_wrong_byte_among_the_pixels_of_a_png_is_found() -> None:
    data = saved(Image.fromarray(GRADIENT), "PNG")
    with pytest.raises(
        errors.ImageUnreadable, match="checksum of its chunk IDAT at byte 33 is wrong"
    ):
        decode(inverted(data, 214))


def png_files() -> Iterator[bytes]:
    yield saved(COFFEE, "PNG")
    yield saved(COFFEE.convert("P"), "PNG")
    yield saved(COFFEE.convert("LA"), "PNG")
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Software", "a camera")
    yield saved(COFFEE.convert("P"), "PNG", transparency=3, pnginfo=texts, dpi=(72, 72))


@given(file=st.sampled_from(list(png_files())), place=st.floats(0, 1, exclude_max=True))
def test_a_png_with_any_byte_wrong_is_refused_or_has_all_its_pixels(
    file: bytes, place: float
) -> None:
    damaged = inverted(file, int(place * len(file)))
    found = outcome(damaged)
    if isinstance(found, errors.ImageError):
        assert type(found) in (errors.ImageUnreadable, errors.ImageUnsupported)
        return
    assert np.array_equal(found[0], np.asarray(decode(file).image))
    broken = [kind for kind, _, is_sound in chunks_of(damaged) if not is_sound]
    assert set(broken) <= {*TEXTS, b"IEND"}  # all its pixels come before its end
    assert ("image_damaged" in found[1]) == bool(broken)


FILES = {
    "PNG": saved(COFFEE, "PNG"),
    "JPEG": saved(COFFEE, "JPEG", quality=90),
    "progressive JPEG": saved(COFFEE, "JPEG", quality=90, progressive=True),
    "JPEG with restarts": saved(COFFEE, "JPEG", quality=90, restart_marker_rows=1),
    "WebP": saved(COFFEE, "WEBP", quality=90),
    "lossless WebP": saved(COFFEE, "WEBP", lossless=True),
}


def test_a_jpeg_that_is_cut_in_its_headers_is_called_cut_at_every_byte() -> None:
    for name in ("JPEG", "progressive JPEG", "JPEG with restarts"):
        for length in range(12, 900):
            found = outcome(FILES[name][:length])
            if isinstance(found, errors.ImageError):
                assert type(found) is errors.ImageTruncated, (name, length, found)


@given(name=st.sampled_from(list(FILES)), place=st.floats(0, 1, exclude_max=True))
def test_a_cut_file_is_called_cut_or_has_all_its_pixels(name: str, place: float) -> None:
    file = FILES[name]
    cut = file[: max(int(place * len(file)), 12)]
    found = outcome(cut)
    if isinstance(found, errors.ImageError):
        assert type(found) is errors.ImageTruncated, found
        assert f"ends after {len(cut):,} bytes" in found.message
        assert re.match(r"the (PNG|JPEG|WebP) ends", found.message)
    else:
        assert np.array_equal(found[0], np.asarray(decode(file).image))
        assert "image_damaged" in found[1]


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG",
        b"\xff\xd8",
        b"\xff\xd8\xff\xe0",
        b"RIFF\x40\0\0\0WEBP",
        FILES["PNG"][:33],  # its header alone
        FILES["WebP"][:-1],
    ],
)
def test_of_a_beginning_it_is_said_that_the_rest_is_missing(data: bytes) -> None:
    with pytest.raises(errors.ImageTruncated, match=f"ends after {len(data):,} bytes.*whole file"):
        decode(data)


def test_a_png_that_ends_as_it_should_and_has_no_pixels_says_so() -> None:
    with pytest.raises(errors.ImageUnreadable, match="no pixels"):
        decode(FILES["PNG"][:33] + chunk(b"IEND", b""))


def test_a_png_that_was_sent_as_text_says_so() -> None:
    with pytest.raises(errors.ImageUnreadable, match="as text"):
        decode(FILES["PNG"].replace(b"\r\n", b"\n", 1))


@pytest.mark.parametrize("name", ["JPEG", "progressive JPEG", "JPEG with restarts"])
def test_a_jpeg_that_lacks_but_its_end_is_taken_with_a_warning(name: str) -> None:
    whole = decode(FILES[name])
    assert whole.warnings == []
    decoded = decode(FILES[name][:-2])
    assert decoded.warnings == ["image_damaged"]
    assert np.array_equal(np.asarray(decoded.image), np.asarray(whole.image))


def test_a_progressive_jpeg_that_ends_between_two_scans_is_cut() -> None:
    """It decodes without a complaint, and is but a rough picture."""
    file = FILES["progressive JPEG"]
    last_scan = file.rindex(b"\xff\xda")
    tables = file.rindex(b"\xff\xc4", 0, last_scan)
    with pytest.raises(errors.ImageTruncated):
        decode(file[:tables])


@pytest.mark.parametrize("name", ["JPEG", "progressive JPEG", "JPEG with restarts"])
def test_a_jpeg_whose_decoder_had_to_fill_in_is_told_of(name: str) -> None:
    file = FILES[name]
    start = file.index(b"\xff\xda")
    hole = file[: start + 200] + file[start + 600 :]
    decoded = decode(hole)
    assert decoded.warnings == ["image_damaged"]
    assert not np.array_equal(np.asarray(decoded.image), np.asarray(decode(file).image))


def has_pillows_pixels(file: bytes) -> bool:
    """And is not called damaged, whatever stands behind it."""
    by_pillow = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
    decoded = [decode(data) for data in (file, file + b"a motion picture behind it")]
    return all(
        "image_damaged" not in found.warnings and np.array_equal(np.asarray(found.image), by_pillow)
        for found in decoded
    )


@given(
    mode=st.sampled_from(["L", "RGB", "CMYK"]),
    size=st.tuples(st.integers(16, 80), st.integers(16, 80)),
    quality=st.integers(1, 100),
    subsampling=st.sampled_from([0, 1, 2]),
    progressive=st.booleans(),
    restarts=st.integers(0, 3),
)
def test_a_whole_jpeg_of_every_kind_has_pillows_pixels_and_no_warning(
    mode: str,
    size: tuple[int, int],
    quality: int,
    subsampling: int,
    progressive: bool,
    restarts: int,
) -> None:
    file = saved(
        COFFEE.resize(size).convert(mode),
        "JPEG",
        quality=quality,
        subsampling=subsampling,
        progressive=progressive,
        restart_marker_rows=restarts,
    )
    assert has_pillows_pixels(file)


@pytest.mark.parametrize("subsampling", ["440", "411"])
def test_a_whole_jpeg_of_rare_sampling_has_pillows_pixels(subsampling: str) -> None:
    pixels = np.ascontiguousarray(np.asarray(COFFEE)[:61, :83])
    assert has_pillows_pixels(simplejpeg.encode_jpeg(pixels, colorsubsampling=subsampling))


def test_a_whole_jpeg_in_rgb_has_pillows_pixels() -> None:
    assert has_pillows_pixels(saved(COFFEE, "JPEG", keep_rgb=True, subsampling=0))


def test_a_jpeg_with_two_sizes_is_refused() -> None:
    """Pillow believes the last, libjpeg none."""
    file = FILES["JPEG"]
    at = file.index(b"\xff\xc0")
    frame = file[at : at + 19]
    large = frame[:5] + struct.pack(">HH", 65_500, 65_500) + frame[9:]
    for two in (large + frame, frame + large):
        found = outcome(file[:at] + two + file[at + 19 :])
        assert isinstance(found, errors.ImageUnreadable | errors.ImageTooLarge)


def test_a_webp_whose_picture_is_shorter_than_it_should_be_is_refused() -> None:
    """libwebp fills nothing in: with sizes that agree, a cut picture is no picture."""
    for name in ("WebP", "lossless WebP"):
        file = FILES[name]
        body = file[20 : -len(file) // 3 & ~1]
        cut = file[12:16] + struct.pack("<I", len(body)) + body
        with pytest.raises(errors.ImageUnreadable, match="WebP cannot be decoded"):
            decode(b"RIFF" + struct.pack("<I", len(cut) + 4) + b"WEBP" + cut)


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt"])
def test_a_long_text_does_not_keep_a_png_out(kind: bytes) -> None:
    """A workflow of ComfyUI, an XMP of Photoshop: 3 MiB of text."""
    text = b'{"nodes": []}' * 250_000
    bodies = {
        b"tEXt": b"workflow\0" + text,
        b"zTXt": b"workflow\0\0" + zlib.compress(text),
        b"iTXt": b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(text),
    }
    for keyword in (b"workflow", b"Raw profile type exif"):
        file = with_chunk(FILES["PNG"], kind, bodies[kind].replace(b"workflow", keyword))
        decoded = decode(file)
        assert decoded.warnings == []
        assert np.array_equal(np.asarray(decoded.image), np.asarray(COFFEE))


def test_the_orientation_of_a_text_is_read() -> None:
    turned = with_chunk(
        FILES["PNG"],
        b"iTXt",
        b"XML:com.adobe.xmp\0\0\0\0\0<rdf:Description tiff:Orientation='3'/>".replace(b"'", b'"'),
    )
    assert np.array_equal(np.asarray(decode(turned).image), np.asarray(COFFEE)[::-1, ::-1])


def test_a_wrong_checksum_of_a_text_is_told_of_and_no_more() -> None:
    file = with_chunk(FILES["PNG"], b"tEXt", b"Comment\0a sunny day")
    decoded = decode(file.replace(b"sunny", b"rainy"))
    assert decoded.warnings == ["image_damaged"]


def test_a_palette_that_is_missing_is_missed() -> None:
    file = png_of(np.zeros((16, 16)), 8, PALETTE)
    with pytest.raises(errors.ImageUnreadable, match="PLTE"):
        decode(file)


def test_a_chunk_that_pixels_need_and_nobody_knows_is_refused() -> None:
    file = with_chunk(FILES["PNG"], b"CgBI", bytes(4))  # of Xcode, whose pixels are not PNG's
    with pytest.raises(errors.ImageUnreadable, match="CgBI"):
        decode(file)


@given(
    kind=st.sampled_from(
        [(d, GREY) for d in (1, 2, 4, 8, 16)]
        + [(d, PALETTE) for d in (1, 2, 4, 8)]
        + [(d, c) for d in (8, 16) for c in (RGB, GREY_ALPHA, RGBA)]
    ),
    size=st.tuples(st.integers(16, 40), st.integers(16, 40)),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_png_of_every_kind_has_the_pixels_that_opencv_finds(
    kind: tuple[int, int], size: tuple[int, int], seed: int
) -> None:
    depth, colour_type = kind
    generator = np.random.default_rng(seed)
    channels = {GREY: 1, PALETTE: 1, RGB: 3, GREY_ALPHA: 2, RGBA: 4}[colour_type]
    samples = generator.integers(0, 2**depth, (*size, channels))
    palette = generator.integers(0, 256, 3 * 2 ** min(depth, 8)).astype(np.uint8)
    plte = [chunk(b"PLTE", palette.tobytes())] if colour_type == PALETTE else []
    data = png_of(samples, depth, colour_type, *plte)
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).astype(float)
    found /= 257 if depth == 16 else 1
    found = found if found.ndim == 3 else found[..., None]
    colours, alpha = (found[..., :3], found[..., 3:]) if found.shape[2] == 4 else (found, 255)
    over_white = colours[..., ::-1] * (alpha / 255) + 255 - alpha
    # of 16 bits Pillow keeps the high byte, of a colour and of its alpha
    assert abs(np.asarray(decode(data).image) - over_white).max() <= (2.5 if depth == 16 else 1)
