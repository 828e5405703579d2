"""The encoding of a CSV: UTF-8, or what Excel makes of it."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from engine.errors import ManifestInvalid

CHUNK_BYTES = 2**20
# Of the characters that are not ASCII, this share must be among the 6,763 Chinese characters and
# the signs of GB 2312: Latin-1 or Shift-JIS read as GB 18030 gives mostly others.
_COMMON_SHARE = 0.9
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
TITLES = {"utf-16": "UTF-16", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16", "gb18030": "GBK"}


def find_encoding(source: BinaryIO, file: str) -> str:
    """Find the encoding of a text as Python calls it; reads `source` to its end.

    UTF-8 is tried first, and GBK where its characters are common ones. Raises `ManifestInvalid`
    naming the line.
    """
    start = source.read(4)
    source.seek(0)
    for mark, encoding in _MARKS.items():
        if start.startswith(mark):
            return encoding
    if b"\0" in start[:2]:
        return "utf-16-be" if start[:1] == b"\0" else "utf-16-le"
    try:
        for _ in _decoded(source, "utf-8"):
            pass
        return "utf-8"
    except UnicodeDecodeError:
        if _is_chinese(source):
            return "gb18030"
    raise ManifestInvalid(_told(source, file))


def _decoded(source: BinaryIO, encoding: str) -> Iterator[str]:
    source.seek(0)
    decoder = codecs.getincrementaldecoder(encoding)()
    while chunk := source.read(CHUNK_BYTES):
        yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)


def _is_chinese(source: BinaryIO) -> bool:
    counts: Counter[str] = Counter()
    try:
        for text in _decoded(source, "gb18030"):
            counts.update(text)
    except UnicodeDecodeError:
        return False
    foreign = {character: count for character, count in counts.items() if not character.isascii()}
    common = sum(count for character, count in foreign.items() if _is_common(character))
    return common >= _COMMON_SHARE * sum(foreign.values())


def _is_common(character: str) -> bool:
    try:
        character.encode("gb2312")
    except UnicodeEncodeError:
        return False
    return True


def _told(source: BinaryIO, file: str) -> str:
    source.seek(0)
    for number, line in enumerate(source, start=1):
        try:
            line.decode()
        except UnicodeDecodeError as error:
            byte = line[error.start]
            return (
                f"{file}, line {number}: byte {byte:#04x} is not UTF-8; save it as UTF-8 (Excel: "
                '"CSV UTF-8"), or as .xlsx'
            )
    return f"{file} is not UTF-8; save it as UTF-8"
