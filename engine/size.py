"""The size of a picture as text: WIDTHxHEIGHT in px."""

from __future__ import annotations

import re

from engine.errors import OptionInvalid

_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")


def checked_size(text: str) -> str:
    """Return the text of a size; raises `ValueError` for any other."""
    if not _SIZE.fullmatch(text):
        raise ValueError('must be "auto" or WIDTHxHEIGHT in pixels, such as "512x512"')
    return text


def parse_size(text: str) -> tuple[int, int]:
    """ "512x384" -> (512, 384): width, height in pixels."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise OptionInvalid(f"size must be WIDTHxHEIGHT; got {text!r}", param="size")
    return int(match[1]), int(match[2])
