"""JPEG files: damage that Pillow passes over, and an end that is missing."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import simplejpeg
from PIL import Image

from engine.picture import Picture, image_of, size_of

# What is larger becomes Pillow's at once: its writers of JPEG and WebP take nothing else, and would
# have no room for their own memory beside both.
ARRAY_PIXELS = 25_000_000
_EOI, _SOS = 0xD9, 0xDA
_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive: what is decoded
_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_LONE = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})  # without a length behind them


def has_size(data: bytes, size: tuple[int, int]) -> bool:
    """Compare the size that libjpeg reads in the header with Pillow's (width, height) in px."""
    try:
        height, width = simplejpeg.decode_jpeg_header(data, strict=False)[:2]
    except ValueError:
        return False
    return (width, height) == size


def sound_pixels(data: bytes, mode: str) -> Picture | None:
    """Decode a JPEG of `mode` (L or RGB) to Pillow's own pixels; one of RGB and of no more than
    `ARRAY_PIXELS` as an array.

    `None` where libjpeg, which both use, misses or skips something: it fills that in, and Pillow
    does not tell.
    """
    try:
        pixels = simplejpeg.decode_jpeg(data, "GRAY" if mode == "L" else mode)
    except ValueError:
        return None
    if mode == "L":
        return Image.fromarray(pixels[..., 0])
    width, height = size_of(pixels)
    return pixels if width * height <= ARRAY_PIXELS else image_of(pixels)


def is_damaged(data: bytes) -> bool:
    """Tell a JPEG that libjpeg has to complete from a whole one.

    A JPEG has no checksums: a wrong bit is noticed where too many or too few bits are left.
    """
    return not _is_decoded(data, strict=True) and _is_decoded(data, strict=False)


def _is_decoded(data: bytes, strict: bool) -> bool:
    try:  # at an eighth of the size every bit is read all the same
        simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, min_factor=8, strict=strict)
    except ValueError:
        return False
    return True


def with_its_end(data: bytes) -> bytes | None:
    """Give `data` the end that is all it lacks; `None` where it lacks more."""
    whole = data + bytes((0xFF, _EOI))
    return whole if _is_decoded(whole, strict=True) and _has_every_bit(whole) else None


def begins_pixels(data: bytes) -> bool:
    """Find the start of the pixels, behind headers that are all there."""
    return any(marker == _SOS for marker, _ in _segments(data))


def _has_every_bit(data: bytes) -> bool:
    """Whether its scans send each coefficient to the last bit (ITU T.81, G.1)."""
    unsent: dict[int, np.ndarray] = {}
    for marker, body in _segments(data):
        if marker in _FRAMES:
            unsent = {component: np.ones(64) for component in body[6::3]}
        elif marker == _SOS and len(body) >= 4 + 2 * body[0]:
            first, last, bits = body[1 + 2 * body[0] : 4 + 2 * body[0]]
            for component in body[1 : 1 + 2 * body[0] : 2]:
                unsent.get(component, np.ones(64))[first : last + 1] = bits & 15
    return not any(bits.any() for bits in unsent.values())


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The marker segments that are whole: marker, and what stands behind its length."""
    at = 2
    while match := _MARKER.search(data, at):
        marker, at = match[1][0], match.end()
        if marker == _EOI:
            return
        if marker in _LONE:
            continue
        end = at + max(int.from_bytes(data[at : at + 2]), 2)
        if end > len(data):
            return
        yield marker, data[at + 2 : end]
        at = end
