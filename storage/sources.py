"""Source images: the bytes behind a path or URI."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from engine.errors import ImageNotFound, ImageSourceRefused, ImageTooLarge
from engine.images import MAX_BYTES
from storage.backends import backend_of, readable
from storage.location import is_uri, located, scheme_of


def read_source(source: str, base: str = "", root: str | None = None) -> bytes:
    """Read the image file that a manifest or a caller names.

    `base`: the folder that relative paths start from; `root`: a local folder that nothing may
    leave, by `..`, symlink or scheme. Raises `ImageSourceRefused`, `ImageNotFound`,
    `ImageTooLarge`, and what the storage's client raises.
    """
    location = _allowed(source, base)
    if root is not None:
        location = _inside(location, root)
    try:
        with _open(location) as file:
            data = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, IsADirectoryError, PermissionError, NotADirectoryError) as error:
        raise ImageNotFound(f"{source}: {error.strerror or 'not found'}") from None
    if len(data) > MAX_BYTES:
        raise ImageTooLarge(f"{source} has more than {MAX_BYTES:,} bytes")
    return data


def _open(location: str) -> BinaryIO:
    """Open a file to read; of a local one "::" is a part of the name, to `fsspec.open` a chain."""
    if scheme_of(location) == "file":
        return LocalFileSystem().open(location, "rb")
    return fsspec.open(location, "rb").open()


def _allowed(source: str, base: str) -> str:
    if "\0" in source:
        raise ImageSourceRefused("the path of the image holds a NUL character")
    if backend_of(source) is None:
        scheme = source.partition("://")[0]
        raise ImageSourceRefused(f"{scheme}:// is not fetched; use a path or one of {readable()}")
    return located(source, base)


def _inside(location: str, root: str) -> str:
    path = location.removeprefix("file://")
    resolved = Path(path).resolve()
    if is_uri(path) or not resolved.is_relative_to(Path(root).resolve()):
        raise ImageSourceRefused(f"{location} is outside the image root {root}")
    return str(resolved)
