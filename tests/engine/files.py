"""Image files and colour profiles written by hand, so that a test knows what every byte means."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6  # colour types of PNG
D50 = (0.9642, 1.0, 0.8249)  # ICC.1, 7.2.16
# sRGB's red, green and blue, adapted to D50: the columns of IEC 61966-2-1's matrix.
PRIMARIES = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))


def saved(image: Image.Image, format: str, **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **settings)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(samples: np.ndarray, depth: int, colour_type: int, *chunks: bytes) -> bytes:
    """A PNG of (H, W) or (H, W, C) samples of `depth` bits, with `chunks` before its pixels."""
    height, width = samples.shape[:2]
    rows = samples.reshape(height, -1)
    if depth == 16:
        packed = [row.astype(">u2").tobytes() for row in rows]
    else:
        bits = np.unpackbits(rows.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
        packed = [np.packbits(row).tobytes() for row in bits.reshape(height, -1)]
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in packed))
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def with_chunk(data: bytes, kind: bytes, content: bytes) -> bytes:
    """A PNG with one more chunk, before its pixels."""
    at = data.index(b"IDAT") - 4
    return data[:at] + chunk(kind, content) + data[at:]


def with_profile(data: bytes, profile: bytes) -> bytes:
    """A PNG with a colour profile."""
    return with_chunk(data, b"iCCP", b"name\0\0" + zlib.compress(profile))


def profile(space: str, gamma: float, name: str, swapped: bool = False) -> bytes:
    """An ICC profile (version 2.4, a matrix or one curve) whose light is value ** gamma.

    `space`: "RGB", of sRGB's primaries, `swapped`: red and blue exchanged; or "GRAY".
    """
    curve = b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256)) + b"\0\0"
    text = name.encode() + b"\0"
    described = b"desc" + struct.pack(">II", 0, len(text)) + text + bytes(8 + 3 + 67)
    tags = {b"desc": described, b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz(D50)}
    if space == "GRAY":
        tags[b"kTRC"] = curve
    else:
        for letter, primary in zip(b"bgr" if swapped else b"rgb", PRIMARIES, strict=True):
            tags[bytes([letter]) + b"XYZ"] = _xyz(primary)
            tags[bytes([letter]) + b"TRC"] = curve
    table, bodies, at = [struct.pack(">I", len(tags))], [], 128 + 4 + 12 * len(tags)
    for tag, body in tags.items():
        table.append(tag + struct.pack(">II", at, len(body)))
        bodies.append(body + bytes(-len(body) % 4))
        at += len(bodies[-1])
    header = (
        struct.pack(
            ">I4sI4s4s4s", at, bytes(4), 0x02400000, b"mntr", space.encode().ljust(4), b"XYZ "
        )
        + bytes(12)
        + b"acsp"
        + bytes(28)
        + _xyz(D50)[8:]
        + bytes(48)
    )
    return header + b"".join(table) + b"".join(bodies)


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def srgb_of_light(light: np.ndarray) -> np.ndarray:
    """Linear light, 0 to 1, as sRGB values, 0 to 255, not rounded (IEC 61966-2-1)."""
    curved = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return curved * 255
