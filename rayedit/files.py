"""Images of any kind, as the bytes of the files that an edit starts from."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from engine.errors import MaskInvalid, OptionInvalid
from engine.masks import encode_mask
from engine.sources import Source, naming_image
from storage.sources import read_source

ImageLike = str | os.PathLike[str] | bytes | Image.Image | np.ndarray
MaskLike = ImageLike

_PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")


def source_of(image: ImageLike, references: Sequence[ImageLike], mask: MaskLike | None) -> Source:
    """Make the files of an edit; raises `ImageError`, `MaskInvalid` and `OptionInvalid`."""
    count = 1 + len(references)
    files = []
    for number, one in enumerate([image, *references], start=1):
        with naming_image(number, count):
            files.append(_file_of(one))
    drawn = None if mask is None else _mask_file_of(mask)
    return Source(files[0], drawn, tuple(files[1:]))


def _file_of(image: ImageLike) -> bytes:
    """The bytes of an image file; raises `ImageError` and `OptionInvalid`."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | os.PathLike):
        return read_source(os.fspath(image))
    if isinstance(image, np.ndarray):
        return _png(_of_array(image))
    if isinstance(image, Image.Image):
        return _png(image)
    raise OptionInvalid(
        f"image must be a path, bytes, a PIL image or an array; got {type(image).__name__}",
        param="image",
    )


def _mask_file_of(mask: MaskLike) -> bytes:
    """The bytes of a mask's PNG."""
    if not isinstance(mask, np.ndarray):
        return _file_of(mask)
    if mask.ndim != 2 or mask.dtype not in (np.uint8, np.bool_):
        raise MaskInvalid(
            f"mask: an array must be (H, W) bool or uint8; got {mask.shape} {mask.dtype}"
        )
    edited = mask.astype(np.uint8) * 255 if mask.dtype == np.bool_ else mask
    return encode_mask(edited)


def _of_array(pixels: np.ndarray) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise OptionInvalid(
            f"image: an array must be (H, W, 3) uint8; got {pixels.shape} {pixels.dtype}",
            param="image",
        )
    return Image.fromarray(pixels)


def _png(image: Image.Image) -> bytes:
    """A lossless file with the image's profile and orientation."""
    if image.mode not in _PNG_MODES:
        image = image.convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1, exif=image.getexif())
    return buffer.getvalue()
