"""Bytes <-> RGB images: limits, orientation, what is broken; as pure functions."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from engine.colour import to_srgb
from engine.errors import (
    ImageAnimated,
    ImageError,
    ImageMissing,
    ImageTooLarge,
    ImageTooNarrow,
    ImageTooSmall,
    ImageTruncated,
    ImageUnreadable,
    ImageUnsupported,
)
from engine.formats import taken_format
from engine.jpeg import begins_pixels, has_size, is_damaged, sound_pixels, with_its_end
from engine.picture import Picture, image_of
from engine.png import PngFile
from engine.png_writer import write_png

MAX_BYTES = 25 * 2**20  # between Google's 20 MB and OpenAI's 50 MB
MAX_PIXELS = 50_000_000  # imgproxy's default; a 61-megapixel camera is over it, phones are not
MAX_SIDE_PX = 12_000  # Cloudflare Images
MIN_SIDE_PX = 16
MAX_ASPECT = 16
# Of a WebP: up to so many libwebp keeps what it tries for each block (method 4, its default); with
# it 16 million of noise did not fit into 512 MiB. Beyond, it does not (method 2).
SEARCHED_PIXELS = 12_000_000
# What Pillow raises for files that are not as they should be, in their metadata too.
BROKEN = (
    *(OSError, EOFError, RuntimeError, SyntaxError, ValueError, TypeError, LookupError),
    struct.error,
)
_STILLS = ("MPO", "GIF", "TIFF", "HEIF")  # of several images in a file the first is the picture
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16"})
_ORIENTATION = 0x0112  # EXIF 2.3, tag 274, and how to undo each of its values
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Decoded:
    """`picture`: RGB, upright, sRGB; `warnings`: of `edit.WARNINGS`; `alpha`: mode L, of the same
    size, 255 where opaque; `None` where all is, or it was not asked for."""

    picture: Picture
    warnings: list[str] = field(default_factory=list)
    alpha: Image.Image | None = None

    @property
    def image(self) -> Image.Image:
        """The picture as Pillow's image, which may be a copy."""
        return image_of(self.picture)


def decode(data: bytes, accept: Collection[str] = (), keep_alpha: bool = False) -> Decoded:
    """Decode a JPEG, PNG or WebP to an upright sRGB image over white; raises `ImageError`.

    `accept`: further formats, of `engine.formats.OPTIONAL_FORMATS`; `keep_alpha`: return it too.
    """
    if not data:
        raise ImageMissing("the source image is empty (0 bytes)")
    if len(data) > MAX_BYTES:
        raise ImageTooLarge(f"the image file has {len(data):,} bytes; at most {MAX_BYTES:,}")
    notes: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bombs: our bound is lower; broken EXIF: no orientation
        loaded, header = _load(data, taken_format(data, accept), notes)
        turn = _turn(header)
        converted, alpha = to_srgb(loaded, header, notes, keep_alpha)
        del loaded, header  # a large one and its two successors would not fit together
    if turn is not None:
        converted, alpha = image_of(converted).transpose(turn), alpha and alpha.transpose(turn)
    if isinstance(converted, Image.Image):
        converted.info = {}  # Pillow would write some of it into the result
    return Decoded(converted, notes, alpha)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What makes it upright; none where its EXIF is broken."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except BROKEN:
        return None


def _load(data: bytes, format: str, notes: list[str]) -> tuple[Picture, Image.Image]:
    """The pixels of a file in one of `_MODES`, and what tells their mode, profile and EXIF."""
    png = PngFile(data) if format == "PNG" else None
    try:
        image = png.open() if png else Image.open(io.BytesIO(data), formats=[format])
        _check_frames(image, notes)
        _check_size(image)
        if format == "JPEG":
            return _load_jpeg(data, image, notes), image
        image.load()
    except Image.DecompressionBombError:
        raise ImageTooLarge(f"the image has more than {MAX_PIXELS:,} pixels") from None
    except BROKEN as error:
        raise _broken(data, format, error) from None
    if png is not None:
        notes += png.warnings
        image = png.settled(image)
    if image.mode not in _MODES:
        image = _in_known_mode(image)
    return image, image


def _load_jpeg(data: bytes, image: Image.Image, notes: list[str]) -> Picture:
    if not has_size(
        data, image.size
    ):  # an odd header: let Pillow judge, which bounds what it reads
        image.load()
        return image
    if image.mode in ("L", "RGB") and (sound := sound_pixels(data, image.mode)) is not None:
        return sound
    try:
        image.load()
    except BROKEN:
        if (whole := with_its_end(data)) is None:
            raise
        image = Image.open(io.BytesIO(whole), formats=["JPEG"])
        image.load()
        notes.append("image_damaged")
        return image
    if is_damaged(data):
        notes.append("image_damaged")
    return image


def _broken(data: bytes, format: str, error: Exception) -> ImageError:
    """What to say of a file that cannot be loaded: that it was cut, if it was."""
    name = "WebP" if format == "WEBP" else format
    is_cut = "truncated" in str(error).lower()
    if format == "WEBP":
        is_cut = 8 + int.from_bytes(data[4:8], "little") > len(data)
    if format == "JPEG":
        is_cut = is_cut or not begins_pixels(data)
    if is_cut:
        return ImageTruncated(
            f"the {name} ends after {len(data):,} bytes, before its pixels do; send the whole file"
        )
    reason = " ".join(str(error).split())  # libheif's has lines
    return ImageUnreadable(f"the {name} cannot be decoded: {reason}; send an undamaged file")


def _check_frames(image: Image.Image, notes: list[str]) -> None:
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in _STILLS:
        raise ImageAnimated(f"the image has {frames} frames; send one still image")
    if frames > 1 and image.format != "MPO":  # its second view is no loss
        notes.append("first_frame_only")


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE_PX:
        raise ImageTooLarge(
            f"the image is {width}x{height} px; at most {MAX_PIXELS:,} pixels and "
            f"{MAX_SIDE_PX:,} px a side"
        )
    if min(width, height) < MIN_SIDE_PX:
        raise ImageTooSmall(f"the image is {width}x{height} px; at least {MIN_SIDE_PX} px a side")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageTooNarrow(f"the image is {width}x{height} px; at most {MAX_ASPECT}:1")


def _in_known_mode(image: Image.Image) -> Image.Image:
    """What only the formats of `accept` have: premultiplied alpha, big-endian numbers, YCbCr."""
    if image.mode == "I;16B":
        return Image.fromarray(np.asarray(image).astype(np.uint16))
    mode = {"RGBa": "RGBA", "La": "LA", "YCbCr": "RGB", "RGBX": "RGB"}.get(image.mode)
    if mode is None:
        raise ImageUnsupported(
            f"the {image.format} has pixels of mode {image.mode}; send it with 8 or 16 bits a "
            "channel, in grey, RGB or CMYK"
        )
    return image.convert(mode)


def encode(
    picture: Picture, format: str = "png", quality: int | None = None, command: str = ""
) -> bytes:
    """Encode an RGB picture, as PNG or WebP also RGBA; the same pixels give the same bytes.

    `quality`: 0-100 for JPEG and WebP (default 95). `command`: what makes the picture again, see
    `engine.recipe`; a PNG carries it, and nothing of the source's metadata.
    """
    if format == "png":
        return write_png(picture, command)
    buffer, image = io.BytesIO(), image_of(picture)
    wishes = {"quality": 95 if quality is None else quality}
    if format == "webp":
        wishes["method"] = 4 if image.width * image.height <= SEARCHED_PIXELS else 2
    image.save(buffer, format.upper(), **wishes)
    return buffer.getvalue()
