"""Bytes <-> RGB arrays: limits, orientation and colour, as pure functions."""

from __future__ import annotations

import io
import warnings
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
PNG_COMPRESS_LEVEL = 4  # zlib: files 1% larger than at 6, in half the time (512 px photographs)
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
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
        upright = _to_srgb(image, notes)
    return Decoded(upright.transpose(turn) if turn is not None else upright, notes)


def _load(data: bytes) -> Image.Image:
    image = _open(data)
    _check_size(image)
    try:
        image.load()
    except (OSError, SyntaxError, ValueError, MemoryError) as error:
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
    except (OSError, SyntaxError, ValueError) as error:
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
    profile = image.info.get("icc_profile")
    flat = _flatten(image)
    converted = _convert_profile(flat, profile, notes) if profile else None
    return converted if converted is not None else _to_rgb(flat, notes)


def _flatten(image: Image.Image) -> Image.Image:
    """Alpha and palettes over white; other modes as they are."""
    if image.mode not in ("P", "RGBA", "LA", "PA") and "transparency" not in image.info:
        return image
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _convert_profile(image: Image.Image, profile: bytes, notes: list[str]) -> Image.Image | None:
    """`image` through its ICC profile; `None`, with a note, where that does not fit the pixels."""
    try:
        if len(profile) > MAX_ICC_BYTES:
            raise ImageCms.PyCMSError("the profile is too large")
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != _ICC_SPACES.get(image.mode):
            raise ImageCms.PyCMSError("the profile is for other pixels")
        if "srgb" in (source.profile.profile_description or "").lower():
            return None
        return ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        notes.append("icc_ignored")
        return None


def _to_rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    if image.mode == "CMYK":
        notes.append("cmyk_converted")
    if image.mode.startswith("I"):  # 16-bit grey: 65535 is white, so 65535 / 257 = 255
        grey = np.clip(np.asarray(image).astype(np.float32) / 257, 0, 255).round()
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    return image.convert("RGB") if image.mode != "RGB" else image


def encode(pixels: np.ndarray, format: str = "png", quality: int | None = None) -> bytes:
    """(H, W, 3) uint8 RGB as a file without any metadata; the same pixels give the same bytes.

    `quality`: 0-100 for JPEG and WebP (default 95).
    """
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    if format == "png":
        image.save(buffer, "PNG", compress_level=PNG_COMPRESS_LEVEL)
    else:
        image.save(buffer, format.upper(), quality=95 if quality is None else quality)
    return buffer.getvalue()
