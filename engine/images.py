"""Bytes <-> RGB arrays: limits, orientation, colour and geometry, as pure functions."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from engine.edit import EditOptions
from engine.errors import (
    ImageAnimated,
    ImageMissing,
    ImageTooLarge,
    ImageTooNarrow,
    ImageTooSmall,
    ImageTruncated,
    ImageUnreadable,
    ImageUnsupported,
    OptionInvalid,
)
from engine.registry import ModelSpec

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_BYTES = 25 * 2**20  # between Google's 20 MB and OpenAI's 50 MB
MAX_PIXELS = 50_000_000  # imgproxy's default; a 61-megapixel camera is over it, phones are not
MAX_SIDE_PX = 12_000  # Cloudflare Images
MIN_SIDE_PX = 16
MAX_ASPECT = 16
MAX_ICC_BYTES = 2**20
PNG_COMPRESS_LEVEL = 4  # zlib: files 1% larger than at 6, in half the time (512 px photographs)
_SRGB = ImageCms.createProfile("sRGB")


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a source maps to the model's canvas and back. Sizes are (width, height) in px.

    `box`: the part (left, top, right, bottom) of the source, in source px, that is resized to
    `inner`; `padding`: (left, top, right, bottom) px put around it; `output`: the final size.
    """

    box: tuple[float, float, float, float]
    inner: tuple[int, int]
    padding: tuple[int, int, int, int]
    output: tuple[int, int]


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
    image = _open(data)
    _check_size(image)
    try:
        image.load()
    except (OSError, SyntaxError, ValueError, MemoryError) as error:
        kind = ImageTruncated if "truncated" in str(error).lower() else ImageUnreadable
        raise kind(f"the {image.format} image cannot be decoded: {error}") from None
    notes: list[str] = []
    return Decoded(ImageOps.exif_transpose(_to_srgb(image, notes)), notes)


def _open(data: bytes) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our bound is lower
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
    exif = image.getexif()  # the orientation must survive the conversion
    profile = image.info.get("icc_profile")
    converted = _convert_profile(image, profile, notes) if profile else None
    if converted is None:
        converted = _to_rgb(image, notes)
    if exif:
        converted.info["exif"] = exif.tobytes()
    return converted


def _convert_profile(image: Image.Image, profile: bytes, notes: list[str]) -> Image.Image | None:
    """`image` through its ICC profile, or `None` where the profile does not fit the pixels."""
    if image.mode not in ("RGB", "CMYK"):
        return None
    try:
        if len(profile) > MAX_ICC_BYTES:
            raise ImageCms.PyCMSError("the profile is too large")
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != image.mode:
            raise ImageCms.PyCMSError("the profile is for another colour space")
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
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB") if image.mode != "RGB" else image


def plan_geometry(source: tuple[int, int], options: EditOptions, spec: ModelSpec) -> Geometry:
    """The geometry of an edit of a `source` (width, height); never a stretch.

    Raises `OptionInvalid` for a size the model cannot do.
    """
    spec.check_size(options.size_px)
    if options.restore_size and options.resize == "crop":
        raise OptionInvalid(
            "restore_size needs the whole picture: use resize=fit or pad", param="restore_size"
        )
    if options.restore_size or options.resize == "pad":
        return _pad(source, options, spec)
    square = (spec.resolution, spec.resolution)
    canvas = options.size_px or (square if options.resize == "crop" else _fit(source, spec))
    return Geometry(_centre_box(source, canvas), canvas, (0, 0, 0, 0), canvas)


def _fit(source: tuple[int, int], spec: ModelSpec) -> tuple[int, int]:
    """InstructPix2Pix's rule (`edit_cli.py`), in whole numbers: the long side about `resolution`,
    the short side rounded up to the multiple, the long side down."""
    short, long = min(source), max(source)
    steps = -(-short * spec.resolution // (long * spec.multiple))
    sides = {short: steps, long: steps * long // short}
    return sides[source[0]] * spec.multiple, sides[source[1]] * spec.multiple


def _centre_box(
    source: tuple[int, int], canvas: tuple[int, int]
) -> tuple[float, float, float, float]:
    """The largest centred part of `source` with the aspect of `canvas` (`ImageOps.fit`)."""
    scale = min(source[0] / canvas[0], source[1] / canvas[1])
    left, top = (source[0] - canvas[0] * scale) / 2, (source[1] - canvas[1] * scale) / 2
    return max(left, 0.0), max(top, 0.0), source[0] - max(left, 0.0), source[1] - max(top, 0.0)


def _pad(source: tuple[int, int], options: EditOptions, spec: ModelSpec) -> Geometry:
    """The whole picture on the canvas; what is added around it is cut off again."""
    bound = options.size_px or (spec.resolution, spec.resolution)
    scale = min(bound[0] / source[0], bound[1] / source[1])
    inner = (max(round(source[0] * scale), 1), max(round(source[1] * scale), 1))
    canvas = bound
    if options.resize == "fit" and not options.size_px:
        multiple = spec.multiple
        canvas = (-(-inner[0] // multiple) * multiple, -(-inner[1] // multiple) * multiple)
    left, top = (canvas[0] - inner[0]) // 2, (canvas[1] - inner[1]) // 2
    padding = (left, top, canvas[0] - inner[0] - left, canvas[1] - inner[1] - top)
    output = source if options.restore_size else inner
    return Geometry((0, 0, *source), inner, padding, output)


def to_canvas(image: Image.Image, geometry: Geometry) -> np.ndarray:
    """(H, W, 3) uint8 RGB at the canvas' size: one Lanczos resize, edges replicated outwards."""
    inner = image
    if image.size != geometry.inner or geometry.box != (0, 0, *image.size):
        inner = image.resize(geometry.inner, Image.Resampling.LANCZOS, box=geometry.box)
    left, top, right, bottom = geometry.padding
    return np.pad(np.asarray(inner), ((top, bottom), (left, right), (0, 0)), mode="edge")


def from_canvas(pixels: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The edited canvas without its padding, at the geometry's output size."""
    left, top, right, bottom = geometry.padding
    height, width = pixels.shape[:2]
    inner = np.ascontiguousarray(pixels[top : height - bottom, left : width - right])
    if inner.shape[1::-1] == geometry.output:
        return inner
    return np.asarray(Image.fromarray(inner).resize(geometry.output, Image.Resampling.LANCZOS))


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
