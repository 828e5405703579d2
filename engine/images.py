"""Bytes <-> RGB arrays: limits, orientation and colour, as pure functions."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from engine.errors import (
    ImageAnimated,
    ImageMissing,
    ImageTooLarge,
    ImageTooNarrow,
    ImageTooSmall,
    ImageTruncated,
    ImageUnreadable,
    ImageUnsupported,
)

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_BYTES = 25 * 2**20  # between Google's 20 MB and OpenAI's 50 MB
MAX_PIXELS = 50_000_000  # imgproxy's default; a 61-megapixel camera is over it, phones are not
MAX_SIDE_PX = 12_000  # Cloudflare Images
MIN_SIDE_PX = 16
MAX_ASPECT = 16
MAX_ICC_BYTES = 2**20
BAND_PIXELS = 2**20  # that are converted at a time
PNG_COMPRESS_LEVEL = 4  # zlib: files 1% larger than at 6, in half the time (512 px photographs)
# What Pillow raises for files that are not as they should be, in their metadata too.
BROKEN = (OSError, SyntaxError, ValueError, TypeError, LookupError, struct.error)
_SRGB = ImageCms.createProfile("sRGB")
_ICC_SPACES = {"RGB": "RGB", "CMYK": "CMYK", "L": "GRAY"}
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


Transform = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True, slots=True)
class Decoded:
    """`image`: RGB, upright, sRGB; `warnings`: codes of what was softened."""

    image: Image.Image
    warnings: list[str] = field(default_factory=list)


def decode(data: bytes) -> Decoded:
    """A JPEG, PNG or WebP as an upright sRGB image without alpha; raises `ImageError`."""
    if not data:
        raise ImageMissing("the source image is empty (0 bytes)")
    if len(data) > MAX_BYTES:
        raise ImageTooLarge(f"the image file has {len(data):,} bytes; at most {MAX_BYTES:,}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bombs: our bound is lower; broken EXIF: no orientation
        image = _load(data)
        notes: list[str] = []
        turn = _turn(image)
        converted = _to_srgb(image, notes)
        del image  # a large one and its two successors would not fit together
    return Decoded(converted.transpose(turn) if turn is not None else converted, notes)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What makes it upright; none where its EXIF is broken."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except BROKEN:
        return None


def _load(data: bytes) -> Image.Image:
    image = _open(data)
    _check_size(image)
    try:
        image.load()
    except BROKEN as error:
        kind = ImageTruncated if "truncated" in str(error).lower() else ImageUnreadable
        raise kind(f"the {image.format} image cannot be decoded: {error}") from None
    return image


def _open(data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise ImageTooLarge(f"the image has more than {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise ImageUnsupported(
            "the file is not a JPEG, PNG or WebP image (its content decides, not its name)"
        ) from None
    except BROKEN as error:
        raise ImageUnreadable(f"the image cannot be opened: {error}") from None
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # an MPO is a still with a second view
        raise ImageAnimated(f"the image has {frames} frames; send one still image")
    return image


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


def _to_srgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """Band by band: beside `image` there is never more than its result in memory."""
    transform = _profile_transform(image, notes)
    if image.mode == "CMYK" and transform is None:
        notes.append("cmyk_converted")
    if image.mode == "RGB" and "transparency" not in image.info and transform is None:
        return image
    width, height = image.size
    result = Image.new("RGB", image.size)
    rows = max(BAND_PIXELS // width, 1)
    for top in range(0, height, rows):
        box = (0, top, width, min(top + rows, height))
        band = _flatten(image.crop(box))
        result.paste(_to_rgb(band) if transform is None else transform(band), box)
    return result


def _flatten(image: Image.Image) -> Image.Image:
    """Alpha and palettes over white; other modes as they are."""
    if not _has_alpha(image):
        return image
    if image.mode.startswith("I"):  # as RGBA, 16 bits would be cut to 255
        clear = np.asarray(image) == image.info["transparency"]
        return Image.fromarray(np.where(clear[..., None], 255, np.asarray(_to_rgb(image))))
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("P", "RGBA", "LA", "PA") or "transparency" in image.info


def _profile_transform(image: Image.Image, notes: list[str]) -> Transform | None:
    """What takes `image`, flattened, through its ICC profile to sRGB; `None` where that is not
    needed or, with a note, where the profile does not fit the pixels."""
    profile = image.info.get("icc_profile")
    if not profile:
        return None
    mode = "RGB" if _has_alpha(image) else image.mode
    try:
        if len(profile) > MAX_ICC_BYTES:
            raise ImageCms.PyCMSError("the profile is too large")
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != _ICC_SPACES.get(mode):
            raise ImageCms.PyCMSError("the profile is for other pixels")
        if "srgb" in (source.profile.profile_description or "").lower():
            return None
        transform = ImageCms.buildTransform(source, _SRGB, mode, "RGB")
        return lambda band: _apply(band, transform)
    except (ImageCms.PyCMSError, OSError, ValueError):
        notes.append("icc_ignored")
        return None


def _apply(band: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    converted = ImageCms.applyTransform(band, transform)
    if converted is None:
        raise ImageUnreadable("the colour profile cannot be applied")
    return converted


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey: 65535 is white, so 65535 / 257 = 255
        grey = np.clip(np.asarray(image).astype(np.float32) / 257, 0, 255).round()
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    return image.convert("RGB") if image.mode != "RGB" else image


def encode(image: Image.Image, format: str = "png", quality: int | None = None) -> bytes:
    """An RGB image as a file without any metadata; the same pixels give the same bytes.

    `quality`: 0-100 for JPEG and WebP (default 95).
    """
    buffer = io.BytesIO()
    if format == "png":
        image.save(buffer, "PNG", compress_level=PNG_COMPRESS_LEVEL)
    else:
        image.save(buffer, format.upper(), quality=95 if quality is None else quality)
    return buffer.getvalue()
