"""The functions that run in the decode processes: sources to pixels, edited pixels to files."""

from __future__ import annotations

import base64
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from engine.edit import EditReport, EditResult
from engine.errors import OptionInvalid
from engine.geometry import Geometry, cut_padding
from engine.images import encode
from engine.masks import encode_mask
from engine.options import ResolvedOptions
from engine.results import finished_images
from engine.sources import (
    Finishing,
    Prepared,
    Source,
    naming_image,
    prepare,
    read_data_url,
)
from engine.spec import ModelSpec
from engine.wire import OutputFormat

# libwebp needs more than PNG or JPEG: of noise at quality 100 28 million fit, 32 do not.
MAX_PIXELS = {"webp": 28_000_000}
MAX_CLEAR_PIXELS = {"webp": 12_000_000, "png": 36_000_000}  # with alpha: 16 and 50 do not
MAX_MASK_PIXELS = 32_000_000  # 11 bytes a pixel beside the image: 35 million fit


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image as it is sent."""

    b64: str  # the file, base64
    size: tuple[int, int]  # (width, height) px
    report: EditReport | None = None
    warnings: tuple[str, ...] = ()
    mask_b64: str | None = None  # where it was edited, as a mask


@dataclass(frozen=True, slots=True)
class SentFiles:
    """The images of an edit, and its mask, as they were sent: each a file, or a data URL."""

    images: Sequence[bytes | str]
    mask: bytes | str | None

    def read(self) -> Source:
        """Read the data URLs; raises `ImageError`."""
        images, mask = self.images, self.mask
        files = []
        for number, image in enumerate(images, start=1):
            with naming_image(number, len(images)):
                param = f"images[{number - 1}].image_url"
                files.append(read_data_url(image, param) if isinstance(image, str) else image)
        drawn = read_data_url(mask, "mask.image_url") if isinstance(mask, str) else mask
        return Source(files[0], drawn, tuple(files[1:]))


def prepare_source(
    id: str,
    sent: SentFiles,
    instruction: str,
    options: ResolvedOptions,
    spec: ModelSpec,
    accept: Collection[str] = (),
) -> Prepared:
    """Decode what was sent to model size; `accept`: formats beside JPEG, PNG and WebP.

    Raises `ImageError`, `MaskInvalid` and `OptionError`.
    """
    return prepare(id, sent.read(), instruction, options, spec, accept)


def render(
    result: EditResult,
    finishing: Finishing,
    format: str,
    quality: int | None,
    metadata: bool = True,
) -> list[EncodedImage]:
    """Finish and encode the images of an edit, one after the other; `metadata`: a PNG says what
    makes it again."""
    written = [
        (
            encode(made.picture, format, quality, made.command if metadata else ""),
            None if made.edited is None else encode_mask(made.edited),
            (made.size, made.report, made.warnings),
        )
        for made in finished_images(result, finishing)
    ]
    # The pictures are gone by now: beside one of 50 megapixels there is no room for its base64.
    return [
        EncodedImage(_base64(file), *told, None if mask is None else _base64(mask))
        for file, mask, told in written
    ]


def check_output(format: OutputFormat, options: ResolvedOptions, pixels: int) -> None:
    """Refuse what a decode process has no memory to encode; raises `OptionInvalid`."""
    is_clear = options.background == "transparent"
    most = (MAX_CLEAR_PIXELS if is_clear else MAX_PIXELS).get(format, pixels)
    if pixels > most:
        kind = f"transparent {format}" if is_clear else format
        raise OptionInvalid(
            f"output_format: {kind} may have at most {most:,} pixels; ask for another, or send "
            "restore_size=false",
            param="output_format",
        )
    if options.return_mask and pixels > MAX_MASK_PIXELS:
        raise OptionInvalid(
            f"return_mask: of at most {MAX_MASK_PIXELS:,} pixels; leave it out, or send "
            "restore_size=false",
            param="return_mask",
        )


def render_preview(
    pixels: np.ndarray, geometry: Geometry, format: str, quality: int | None
) -> EncodedImage:
    """Encode a preview, (H, W, 3) uint8 RGB at model size, without its padding and not enlarged."""
    shown = Image.fromarray(np.ascontiguousarray(cut_padding(pixels, geometry)))
    return EncodedImage(_base64(encode(shown, format, quality)), shown.size)


def _base64(file: bytes) -> str:
    return base64.b64encode(file).decode()


def load() -> None:
    """Load what the other functions need, by being found in this module."""
