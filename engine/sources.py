"""Where a source image comes from."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import fsspec

from engine.edit import EditRequest
from engine.errors import (
    ImageNotFound,
    ImageSourceRefused,
    ImageTooLarge,
    ImageUnreadable,
)
from engine.geometry import Geometry, plan_geometry, to_canvas
from engine.images import MAX_BYTES, decode
from engine.options import ResolvedOptions
from engine.registry import ModelSpec

STORAGE_SCHEMES = ("s3", "gs", "hf", "file", "memory")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request at model size, the way back to its output size, and warnings of decoding."""

    request: EditRequest
    geometry: Geometry
    warnings: tuple[str, ...]


def prepare(
    id: str, data: bytes, instruction: str, options: ResolvedOptions, spec: ModelSpec
) -> Prepared:
    """Encoded bytes as a request for `spec`. Both doors go through here.

    Raises `ImageError` and `OptionError`.
    """
    decoded = decode(data)
    geometry = plan_geometry(decoded.image.size, options, spec)
    pixels = to_canvas(decoded.image, geometry)
    digest = hashlib.blake2b(pixels.data, digest_size=16).hexdigest()
    request = EditRequest(id, pixels, instruction, options, digest=digest)
    return Prepared(request, geometry, tuple(decoded.warnings))


def read_data_url(url: str) -> bytes:
    """The bytes of a base64 data URL; anything else is refused by name, and nothing is fetched."""
    scheme, colon, _ = url[:64].partition(":")
    if scheme.lower() != "data":
        scheme = scheme if colon and scheme.isalnum() else "path"
        raise ImageSourceRefused(
            f"image_url is a {scheme}; this server fetches nothing: send the image as a file or as "
            "a data:image/...;base64 URL",
            param="image_url",
        )
    head, comma, payload = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise ImageUnreadable("the data URL must be data:image/...;base64,...", param="image_url")
    if len(payload) > MAX_BYTES * 4 // 3 + 4:
        raise ImageTooLarge(f"the image has more than {MAX_BYTES:,} bytes", param="image_url")
    try:
        return base64.b64decode(unquote(payload), validate=True)
    except (binascii.Error, ValueError):
        raise ImageUnreadable("the data URL is not valid base64", param="image_url") from None


def read_source(source: str, base: str = "", root: str | None = None) -> bytes:
    """The bytes of a path or storage URI of a manifest.

    `base`: the folder that relative paths start from; `root`: a local folder that nothing may
    leave, by `..`, symlink or scheme. Raises `ImageSourceRefused`, `ImageNotFound`,
    `ImageTooLarge`.
    """
    location = _locate(source, base)
    if root is not None:
        location = _inside(location, root)
    try:
        with fsspec.open(location, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, IsADirectoryError, PermissionError, NotADirectoryError) as error:
        raise ImageNotFound(f"{source}: {error.strerror or 'not found'}") from None
    if len(data) > MAX_BYTES:
        raise ImageTooLarge(f"{source} has more than {MAX_BYTES:,} bytes")
    return data


def _locate(source: str, base: str) -> str:
    if "\0" in source:
        raise ImageSourceRefused("the path of the image holds a NUL character")
    scheme, separator, _ = source.partition("://")
    if separator and scheme.lower() not in STORAGE_SCHEMES:
        raise ImageSourceRefused(
            f"{scheme}:// is not fetched; use a path or one of {', '.join(STORAGE_SCHEMES)}"
        )
    if separator or os.path.isabs(source) or not base:
        return source
    return f"{base.rstrip('/')}/{source}"


def _inside(location: str, root: str) -> str:
    path = location.removeprefix("file://")
    resolved = Path(path).resolve()
    if "://" in path or not resolved.is_relative_to(Path(root).resolve()):
        raise ImageSourceRefused(f"{location} is outside the image root {root}")
    return str(resolved)
