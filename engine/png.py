"""PNG files by their chunks: checksums, and what Pillow does not tell of them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from engine.bands import bands
from engine.errors import ImageTruncated, ImageUnreadable

MAGIC = b"\x89PNG\r\n\x1a\n"
# Bytes of an ICC profile that is read: a printing press's has about 2 MB, most have a few KB.
MAX_PROFILE_BYTES = 4 * 2**20
MAX_TEXT_BYTES = 2**20  # of a text that holds EXIF or XMP; Pillow refuses the file of a longer one
KEYWORD = "parameters"  # where tools for diffusion models write and look for how one was made
_END = b"\0\0\0\0IEND\xae\x42\x60\x82"
_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
# What may be lost without a pixel of another colour; PNG 3rd edition, section 11.3.
_HARMLESS = frozenset(b"tEXt zTXt iTXt tIME pHYs eXIf bKGD hIST sPLT iCCP gAMA cHRM sRGB".split())
_KEPT = _CRITICAL | {b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT"}
_MANY = frozenset(b"IDAT fcTL fdAT tEXt zTXt iTXt".split())  # of another the first counts
# Texts in which the orientation may stand: by ImageMagick and exiftool, by Adobe.
_KEPT_TEXTS = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
GREY, RGB, PALETTE, GREY_ALPHA = 0, 2, 3, 4  # colour types


class PngFile:
    """A PNG whose checksums are right; raises `ImageTruncated` and `ImageUnreadable`.

    `warnings`: codes of what it lost, none of which is a pixel.
    """

    def __init__(self, data: bytes) -> None:
        _check_magic(data)
        self.warnings: list[str] = []
        self._profile: bytes | None = None
        self._key: tuple[int, ...] = ()
        self._kinds: set[bytes] = set()
        self._bit_depth = self._colour_type = 0
        kept: list[bytes | memoryview] = [MAGIC]
        for kind, chunk in self._sound_chunks(data):
            body = chunk[8:-4]
            if kind not in self._kinds:
                self._read(kind, body)
            elif kind not in _MANY:
                continue
            self._kinds.add(kind)
            if kind in _KEPT or _holds_metadata(kind, body):
                kept.append(chunk)
        self._check_is_whole(data)
        self._data = b"".join(kept)

    def open(self) -> Image.Image:
        """Open the image, without loading its pixels; its texts are left out."""
        image = Image.open(io.BytesIO(self._data), formats=["PNG"])
        if self._profile is not None:
            image.info["icc_profile"] = self._profile
        return image

    def settled(self, image: Image.Image) -> Image.Image:
        """Give the loaded `image` the transparent colour that the file means."""
        if self._colour_type == GREY_ALPHA and image.mode == "RGBA":  # Pillow's for 16 bits
            return image.convert("LA")
        if not self._key:
            return image
        if self._colour_type == RGB and self._bit_depth == 16:
            self._clear_key(image)
            return image
        most = 2**self._bit_depth - 1  # of a key only the bits of a sample count
        key = [(value & most) * _scale(self._bit_depth) for value in self._key]
        image.info["transparency"] = key[0] if len(key) == 1 else tuple(key)
        return image

    def _sound_chunks(self, data: bytes) -> Iterator[tuple[bytes, memoryview]]:
        """The chunks whose checksums are right, with their frames, up to IEND."""
        view, at = memoryview(data), len(MAGIC)
        while at + 12 <= len(data):
            length, kind = struct.unpack_from(">I4s", data, at)
            chunk = view[at : at + 12 + length]
            if len(chunk) < 12 + length:
                self._refuse_overrun(data, kind, length, at)
                return
            at += len(chunk)
            if zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:]):
                yield kind, chunk
            elif kind in _HARMLESS:
                self._warn("image_damaged")
            else:
                raise ImageUnreadable(
                    f"the PNG is damaged: the checksum of its chunk {_name(kind)} at byte "
                    f"{at - len(chunk):,} is wrong; send an undamaged file"
                )
            if kind == b"IEND":
                return

    def _refuse_overrun(self, data: bytes, kind: bytes, length: int, at: int) -> None:
        """A chunk that ends behind the file: of a cut one only pixels are missed."""
        if data.endswith(_END):
            raise ImageUnreadable(
                f"the PNG is damaged: its chunk {_name(kind)} at byte {at:,} would have {length:,} "
                "bytes, more than the file; send an undamaged file"
            )
        if kind == b"IDAT" or b"IDAT" not in self._kinds:
            raise _cut(data)

    def _read(self, kind: bytes, body: memoryview) -> None:
        if not self._kinds and kind != b"IHDR":
            raise ImageUnreadable(f"the PNG begins with the chunk {_name(kind)} in place of IHDR")
        if kind == b"IHDR":
            self._read_header(bytes(body))
        elif kind == b"iCCP":
            self._read_profile(bytes(body))
        elif kind == b"tRNS" and self._colour_type in (GREY, RGB):
            self._read_key(bytes(body))
        elif not kind[:1].islower() and kind not in _CRITICAL:
            raise ImageUnreadable(f"the PNG needs the chunk {_name(kind)}, which PNG does not know")

    def _read_header(self, body: bytes) -> None:
        if len(body) != 13 or body[9] not in _DEPTHS or body[8] not in _DEPTHS[body[9]]:
            raise ImageUnreadable(f"the PNG's header is {body[:13].hex()}, which is none")
        self._bit_depth, self._colour_type = body[8], body[9]

    def _read_profile(self, body: bytes) -> None:
        """The ICC profile; empty where there is none that can be read."""
        _, _, packed = body.partition(b"\0")
        self._profile = _inflated(packed[1:], MAX_PROFILE_BYTES) or b""
        if not self._profile:
            self._warn("icc_ignored")

    def _read_key(self, body: bytes) -> None:
        samples = 3 if self._colour_type == RGB else 1
        if len(body) != 2 * samples:
            raise ImageUnreadable(f"the PNG's chunk tRNS has {len(body)} bytes, not {2 * samples}")
        self._key = struct.unpack(f">{samples}H", body)

    def _check_is_whole(self, data: bytes) -> None:
        if b"IDAT" not in self._kinds:
            if b"IEND" in self._kinds:
                raise ImageUnreadable("the PNG holds no pixels (no chunk IDAT)")
            raise _cut(data)
        if self._colour_type == PALETTE and b"PLTE" not in self._kinds:
            raise ImageUnreadable("the PNG has no palette (no chunk PLTE), which its pixels need")
        if b"IEND" not in self._kinds:
            self._warn("image_damaged")

    def _clear_key(self, image: Image.Image) -> None:
        """Make the pixels of `image` transparent whose 16-bit colour is the key; Pillow loads but
        the high bytes."""
        low = Image.open(io.BytesIO(self._data), formats=["PNG"])
        low.tile = [tile._replace(args="RGB;16L") for tile in low.tile]  # the second byte of each
        low.load()
        key = np.array(self._key)
        alpha = Image.new("L", image.size, 255)
        for box in bands(image.size):
            high_is, low_is = np.asarray(image.crop(box)), np.asarray(low.crop(box))
            clear = ((high_is == key >> 8) & (low_is == key & 255)).all(axis=-1)
            alpha.paste(Image.fromarray(np.where(clear, 0, 255).astype(np.uint8)), box)
        image.info.pop("transparency", None)
        image.putalpha(alpha)

    def _warn(self, code: str) -> None:
        if code not in self.warnings:
            self.warnings.append(code)


def text_of(data: bytes) -> str | None:
    """Read what `write_png` said beside a picture; `None` where there is none, or no PNG."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            text = image.info.get(KEYWORD)
    except (OSError, SyntaxError, ValueError):
        return None
    return text if isinstance(text, str) else None


def _check_magic(data: bytes) -> None:
    if MAGIC.startswith(data):
        raise _cut(data)
    if not data.startswith(MAGIC):
        raise ImageUnreadable(
            "the PNG's first 8 bytes are changed, as by a transfer as text; send it as binary"
        )


def _cut(data: bytes) -> ImageTruncated:
    return ImageTruncated(
        f"the PNG ends after {len(data):,} bytes, before its pixels do; send the whole file"
    )


def _holds_metadata(kind: bytes, body: memoryview) -> bool:
    """Whether it is a text of `_KEPT_TEXTS` that Pillow can read."""
    start = bytes(body[:100])
    keyword = next((word for word in _KEPT_TEXTS if start.startswith(word)), None)
    if keyword is None or kind not in (b"tEXt", b"zTXt", b"iTXt"):
        return False
    text = bytes(body[len(keyword) :])
    if kind == b"zTXt":
        return _inflated(text[1:], MAX_TEXT_BYTES) is not None
    if kind == b"iTXt" and text[:1] == b"\1":
        packed = text[2:].split(b"\0", 2)[-1]
        return _inflated(packed, MAX_TEXT_BYTES) is not None
    return len(text) <= MAX_TEXT_BYTES


def _inflated(packed: bytes, most: int) -> bytes | None:
    """`packed` decompressed; `None` where it is broken or has more than `most` bytes."""
    inflate = zlib.decompressobj()
    try:
        plain = inflate.decompress(packed, most)
    except zlib.error:
        return None
    return None if inflate.unconsumed_tail else plain


def _scale(bit_depth: int) -> int:
    """What Pillow multiplies a grey of so many bits with."""
    return 255 // (2**bit_depth - 1) if bit_depth < 8 else 1


def _name(kind: bytes) -> str:
    return kind.decode("ascii") if kind.isalpha() else kind.hex()
