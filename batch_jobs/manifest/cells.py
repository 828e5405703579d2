"""The cells of a manifest: text, and pictures (images or a mask) as they may be given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from batch_jobs.manifest.columns import PictureColumn
from engine.errors import (
    ImageMissing,
    ImageNotFound,
    ImageUnreadable,
    MaskInvalid,
    RequestError,
)
from engine.sources import naming_image, read_data_url
from engine.text import has_lone_surrogate

NO_UNICODE = " is not valid Unicode (a lone surrogate)"
NO_IMAGE = "image is empty: give a path, a URI or a data URL"


@dataclass(frozen=True, slots=True)
class Picture:
    """Holds what a cell says of an image or a mask; neither path nor bytes where it is empty."""

    path: str | None = None  # or URI
    data: bytes | None = None  # in its place
    error: RequestError | None = None  # why it cannot be read

    @classmethod
    def of(cls, column: PictureColumn, value: Any) -> Self:
        """Read a path or URI, a data URL, bytes, or a struct {bytes, path}."""
        try:
            value = _of_struct(value, column)
        except RequestError as refused:
            return cls(error=refused)
        if value is None or value == "" or (value == b"" and column == "image"):
            return cls()
        if isinstance(value, bytes):  # none of a mask are a mask, and a wrong one
            return cls(data=value)
        if not isinstance(value, str):
            kind = ImageMissing if column == "image" else MaskInvalid
            return cls(error=kind(f"{column} must be a path or URI; got {shown(value)}"))
        if value[:5].lower() != "data:":
            wrong = has_lone_surrogate(value)
            error = ImageNotFound(f"{column}{NO_UNICODE}", param=column) if wrong else None
            return cls(path=text(value), error=error)
        try:
            return cls(data=read_data_url(value, "mask" if column == "mask" else "image_url"))
        except RequestError as error:
            return cls(error=error)

    @classmethod
    def each(cls, value: Any) -> list[Self]:
        """Read the images of an edit, one or more: a cell, or a list of such; the first of them is
        the source."""
        values = value if isinstance(value, list) and value else [None if value == [] else value]
        return [cls._numbered(number, len(values), one) for number, one in enumerate(values, 1)]

    @classmethod
    def _numbered(cls, number: int, count: int, value: Any) -> Self:
        """Read one image of several, none of which may be missing."""
        found = cls.of("image", value)
        error = found.error
        if count > 1 and found == cls():
            error = ImageMissing("there is none")
        try:
            with naming_image(number, count):
                if error is not None:
                    raise error
        except RequestError as named:
            return cls(found.path, error=named)
        return found


@dataclass(frozen=True, slots=True)
class Embedded:
    """Holds the bytes that a manifest has of a row."""

    image: bytes | None = None
    mask: bytes | None = None
    references: Sequence[bytes | None] = ()  # further images


def text(value: str) -> str:
    """Make text that Arrow can hold: a lone surrogate becomes a question mark."""
    return value if value.isprintable() else value.encode("utf-8", "replace").decode()


def shown(value: Any) -> str:
    """Write a value for a message, cut where it is long."""
    written = json.dumps(value)
    return written if len(written) <= 80 else written[:77] + "..."


def _of_struct(value: Any, column: PictureColumn) -> Any:
    """Take the bytes of a struct, which JSON has as base64; its path where it has none, or none but
    empty ones. Raises `ImageUnreadable`."""
    if not isinstance(value, dict) or (value and not value.keys() & {"bytes", "path"}):
        return value
    data, path = value.get("bytes"), value.get("path")
    if isinstance(data, str) and data and not path:
        return _of_base64(data, column)
    return data if isinstance(data, bytes) and (data or not path) else path


def _of_base64(text: str, column: PictureColumn) -> bytes:
    try:
        return read_data_url(f"data:;base64,{text}", column)
    except ImageUnreadable:
        raise ImageUnreadable(
            f"{column}.bytes is not base64; got {shown(text)}", param=column
        ) from None
