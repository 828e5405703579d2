"""PNG files as they leave: the filter "up" on every row, and ISA-L's deflate.

Pillow and OpenCV deflate with zlib, which takes five times as long and more; a photograph's file is
larger here by 6 to 13%, and one of a single grey smaller (docs/decisions.md).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

import numpy as np
from isal import isal_zlib

from engine.bands import bands
from engine.picture import Picture, mode_of, rows_of, size_of
from engine.png import KEYWORD, MAGIC

COLOUR_TYPES = {"L": 0, "RGB": 2, "LA": 4, "RGBA": 6}  # PNG 3rd edition, table 8
LEVEL = 1  # of ISA-L: 0 makes a file larger by a third, 2 no smaller, 3 slower and no smaller
# That are written by themselves: where ISA-L begins a stream with more than 16 bytes, what it finds
# behind the first depends on its own address in memory (`.write_first_byte`, up to version 2.32).
START_BYTES = 8
BAND_BYTES = 2**18  # of pixels at a time: the second cache of a core holds them, and what they make
_UP = 2  # the filter: each byte less the one above


def write_png(picture: Picture, text: str = "") -> bytes:
    """Write a picture of mode L, LA, RGB or RGBA as PNG; the same pixels give the same bytes.

    `text`: what `engine.png.text_of` reads. It needs little memory beside picture and file.
    """
    file = io.BytesIO()
    file.write(MAGIC)
    for kind, body in _chunks(picture, text):
        checksum = isal_zlib.crc32(body, isal_zlib.crc32(kind))
        file.write(struct.pack(">I4s", len(body), kind))
        file.write(body)
        file.write(struct.pack(">I", checksum))
    return file.getvalue()


def _chunks(picture: Picture, text: str) -> Iterator[tuple[bytes, bytes]]:
    colour_type = COLOUR_TYPES[mode_of(picture)]
    yield b"IHDR", struct.pack(">IIBBBBB", *size_of(picture), 8, colour_type, 0, 0, 0)
    if text:
        plain = f"{KEYWORD}\0\0\0\0\0{text}"  # not compressed, of no language
        yield b"iTXt", plain.encode("utf-8", "replace")
    for packed in _deflated(_filtered(picture)):
        if packed:
            yield b"IDAT", packed
    yield b"IEND", b""


def _deflated(filtered: Iterator[np.ndarray]) -> Iterator[bytes]:
    deflate = isal_zlib.compressobj(LEVEL)
    first = next(filtered).reshape(-1)
    start = deflate.compress(first[:START_BYTES]) + deflate.flush(isal_zlib.Z_SYNC_FLUSH)
    yield start + deflate.compress(first[START_BYTES:])
    yield from map(deflate.compress, filtered)
    yield deflate.flush()


def _filtered(picture: Picture) -> Iterator[np.ndarray]:
    """Yield bands of rows, (n, 1 + bytes of a row) uint8: the filter's number, then the rest."""
    size, channels = size_of(picture), len(mode_of(picture))
    row_bytes = size[0] * channels
    above = np.zeros(row_bytes, np.uint8)
    for _, top, _, bottom in bands(size, BAND_BYTES // channels):
        lines = rows_of(picture, top, bottom).reshape(-1, row_bytes)
        filtered = np.empty((len(lines), 1 + row_bytes), np.uint8)
        filtered[:, 0] = _UP
        np.subtract(lines[0], above, out=filtered[0, 1:])
        np.subtract(lines[1:], lines[:-1], out=filtered[1:, 1:])
        above = lines[-1]
        yield filtered
