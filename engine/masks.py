"""Masks: which pixels an edit may change, from OpenAI's PNG to the latents and the last byte.

A mask is (H, W) uint8: 255 where the edit is wanted, 0 where every byte stays the source's, between
them the share of the edit. OpenAI's PNG says it the other way round: transparent means edit.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from engine.errors import ImageError, MaskInvalid
from engine.formats import format_of
from engine.geometry import Geometry, cut_padding
from engine.images import BROKEN, MAX_BYTES, encode
from engine.png import PngFile

_ADVICE = "save it as an 8-bit PNG with alpha (RGBA)"
_BIT_DEPTH_AT = 24  # PNG 11.2.1: 8 bytes of signature, length, "IHDR", width and height, 4 each


def decode_mask(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """Read OpenAI's mask of a source of `size` (width, height) px, as it stands upright.

    `data`: an 8-bit PNG with an alpha channel; alpha 0 is edited, 255 kept. Returns (H, W) uint8.
    Raises `MaskInvalid`.
    """
    _check_file(data)
    try:
        image = PngFile(data).open()
        _check_kind(image, bit_depth=data[_BIT_DEPTH_AT])
        if image.width * image.height != size[0] * size[1]:  # before a bomb is unpacked
            raise _other_size(image.size, size)
        image.load()
        image = ImageOps.exif_transpose(image)
    except ImageError as error:
        raise MaskInvalid(f"the mask cannot be read: {error.message}") from None
    except (Image.DecompressionBombError, *BROKEN) as error:
        raise MaskInvalid(f"the mask cannot be read: {error}; send an undamaged PNG") from None
    if image.size != size:
        raise _other_size(image.size, size)
    mask = 255 - np.asarray(image.getchannel("A"))
    _check_use(mask)
    return mask


def encode_mask(mask: np.ndarray) -> bytes:
    """Write (H, W) uint8 as OpenAI's mask, which `decode_mask` reads: a black PNG with alpha."""
    image = Image.new("LA", (mask.shape[1], mask.shape[0]))
    image.putalpha(Image.fromarray(255 - mask))
    return encode(image)


def _check_file(data: bytes) -> None:
    if len(data) > MAX_BYTES:
        raise MaskInvalid(f"the mask has {len(data):,} bytes; at most {MAX_BYTES:,}")
    if format_of(data) != "PNG":
        found = format_of(data) or f"no image ({len(data):,} bytes)"
        raise MaskInvalid(f"the mask is {found} and no PNG: {_ADVICE}")


def _check_kind(image: Image.Image, bit_depth: int) -> None:
    """Refuse a PNG that has no alpha channel of 8 bits, or several frames."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise MaskInvalid(f"the mask has {frames} frames: send one still PNG")
    if image.mode == "P":
        raise MaskInvalid(f"the mask has a palette in place of an alpha channel: {_ADVICE}")
    if bit_depth != 8:
        raise MaskInvalid(f"the mask has {bit_depth} bits a channel, not 8: {_ADVICE}")
    if "A" not in image.getbands():
        raise MaskInvalid(f"the mask has no alpha channel (its mode is {image.mode}): {_ADVICE}")


def _check_use(mask: np.ndarray) -> None:
    if not mask.any():
        raise MaskInvalid(
            "the mask is opaque everywhere, so nothing may be edited: make transparent what the "
            "edit may change"
        )
    if (mask == 255).all():
        raise MaskInvalid(
            "the mask is transparent everywhere, so it keeps nothing: leave it out, or make opaque "
            "what must stay"
        )


def _other_size(found: tuple[int, int], wanted: tuple[int, int]) -> MaskInvalid:
    return MaskInvalid(
        f"the mask is {found[0]}x{found[1]} px and the image {wanted[0]}x{wanted[1]} px, turned "
        "upright: both must have the same size"
    )


def mask_to_canvas(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Bring a mask of the source to the canvas: (H, W) uint8 -> (H, W) uint8 of the canvas' size.

    A pixel of the canvas is the greatest value that it covers, so that no stroke is too thin and
    0 means that all of it stays; an enlarged one is its nearest. 0 in the padding.
    """
    left, top, right, bottom = geometry.padding
    width, height = geometry.inner
    inner = _pooled(mask, geometry.box[1], geometry.box[3], height)
    inner = _pooled(inner.T, geometry.box[0], geometry.box[2], width).T
    return np.pad(inner, ((top, bottom), (left, right)))


def _pooled(mask: np.ndarray, first: float, end: float, count: int) -> np.ndarray:
    """The greatest of each of `count` equal spans of the rows from `first` to `end`."""
    starts = np.floor(first + (end - first) / count * np.arange(count)).astype(np.intp)
    return np.maximum.reduceat(mask[: int(np.ceil(end))], starts, axis=0)


def mask_to_output(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Bring a mask of the source to the size of the result: (H, W) uint8."""
    if geometry.output == (mask.shape[1], mask.shape[0]):
        return mask
    return cut_padding(mask_to_canvas(mask, geometry), geometry)


def mask_to_latents(mask: np.ndarray, factor: int) -> np.ndarray:
    """Pool a canvas' mask to its latents: (H, W) uint8 -> (H / factor, W / factor) float32, 0..1.

    A latent is edited as much as the most edited of its `factor` x `factor` pixels.
    """
    height, width = mask.shape
    blocks = mask.reshape(height // factor, factor, width // factor, factor)
    return blocks.max(axis=(1, 3)).astype(np.float32) / np.float32(255)


def composite(source: np.ndarray, edited: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mix two pictures in whole numbers: the source's bytes where `mask` is 0, the edit's at 255.

    `source`, `edited`: (H, W, 3) uint8; `mask`: (H, W) uint8. Returns (H, W, 3) uint8.
    """
    share = np.stack([mask] * 3, axis=-1).astype(np.uint16)  # broadcast it would be twice as slow
    mixed = edited * share
    mixed += source * (255 - share)
    mixed += 127  # at most 255 * 255 + 127 < 2^16
    return (mixed // 255).astype(np.uint8)
