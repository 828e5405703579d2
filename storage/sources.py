"""Source images: the bytes behind a path or URI."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

import fsspec
from fsspec import AbstractFileSystem

from engine.errors import ImageNotFound, ImageSourceRefused, ImageTooLarge
from engine.images import MAX_BYTES
from storage.backends import backend_of, readable
from storage.location import is_uri, located, normalized, scheme_of, spellings

MAX_SHOWN = 300  # characters of a source in a message: paths are shorter, images as text are not
_BASE64 = re.compile(r"[A-Za-z0-9+/=\s]{200,}")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_NO_FILE = (errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)


def read_source(source: str, base: str = "", root: str | None = None) -> bytes:
    """Read the image file that a manifest or a caller names.

    `base`: the folder that relative paths start from; `root`: a local folder that nothing may
    leave, by `..`, symlink or scheme. Raises `ImageSourceRefused`, `ImageNotFound`,
    `ImageTooLarge`, and what the storage's client raises.
    """
    reasons = []
    for location in places_of(source, base):
        try:
            with _open(location if root is None else _inside(location, root)) as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            if not (is_absent(error) or isinstance(error, PermissionError)):
                raise
            reasons.append(error.strerror or "not found")
            continue
        if len(data) > MAX_BYTES:
            raise ImageTooLarge(f"{_shown(source)} has more than {MAX_BYTES:,} bytes")
        return data
    raise ImageNotFound(f"{_shown(source)}: {reasons[0]}{_hint(source)}")


def places_of(source: str, base: str) -> list[str]:
    """Return where the image `source` of a manifest in the folder `base` may lie, likeliest first.

    Raises `ImageSourceRefused`.
    """
    if backend_of(source) is None:
        scheme = source.partition("://")[0]
        raise ImageSourceRefused(f"{scheme}:// is not fetched; use a path or one of {readable()}")
    location = normalized(located(source, base))
    if "\0" in location:
        raise ImageSourceRefused("the path holds a NUL character")
    if is_uri(location) and scheme_of(location) == "file":
        host = location.removeprefix("file://").partition("/")[0]
        raise ImageSourceRefused(
            f"{_shown(source)} is a file of the machine {host}; write file:///path, or a path"
        )
    slashed = source if is_uri(source) else source.replace("\\", "/")  # as Windows writes paths
    places = [*spellings(location), *spellings(normalized(located(slashed, base)))]
    return list(dict.fromkeys(places))


def is_absent(error: OSError) -> bool:
    """Tell an error that says that no such file can be there from one that may pass."""
    return isinstance(error, FileNotFoundError) or error.errno in _NO_FILE


def filesystem_of(location: str) -> tuple[AbstractFileSystem, str]:
    """Return the storage of a location and the path in it; "::" is a part of a name, to
    `fsspec.open` it were a chain."""
    kind = fsspec.get_filesystem_class(scheme_of(location))
    return kind(**kind._get_kwargs_from_urls(location)), kind._strip_protocol(location)


def _open(location: str) -> BinaryIO:
    if not is_uri(location):
        mode = os.stat(location).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise ImageSourceRefused(f"{location} is a device, pipe or socket, and no file")
        return open(location, "rb")
    storage, path = filesystem_of(location)
    return storage.open(path, "rb")


def _inside(location: str, root: str) -> str:
    resolved = os.path.realpath(location)  # of a symlink that leads to itself, itself
    if is_uri(location) or not Path(resolved).is_relative_to(os.path.realpath(root)):
        raise ImageSourceRefused(f"{_shown(location)} is outside the image root {root}")
    return resolved


def _shown(source: str) -> str:
    if len(source) <= MAX_SHOWN:
        return source
    return f"{source[:60]}... ({len(source):,} characters)"


def _hint(source: str) -> str:
    if _BASE64.fullmatch(source):
        return "; if it is base64, write it as data:image/jpeg;base64,..."
    if _DRIVE.match(source):
        return "; it names a drive of Windows: write the path below --image-base"
    return ""
