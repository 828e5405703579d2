"""Where a source image comes from."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import unquote

from engine.edit import EditRequest
from engine.errors import (
    ImageSourceRefused,
    ImageTooLarge,
    ImageUnreadable,
)
from engine.geometry import Geometry, plan_geometry, to_canvas
from engine.images import MAX_BYTES, decode
from engine.options import ResolvedOptions
from engine.spec import ModelSpec

_SPACES = b" \t\r\n\f\v"  # MIME breaks base64 into lines of 76


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request at model size, the way back to its output size, and warnings of decoding."""

    request: EditRequest
    geometry: Geometry
    warnings: tuple[str, ...]


def prepare(
    id: str,
    data: bytes,
    instruction: str,
    options: ResolvedOptions,
    spec: ModelSpec,
    accept: Collection[str] = (),
) -> Prepared:
    """Encoded bytes as a request for `spec`. Both doors go through here.

    Raises `ImageError` and `OptionError`.
    """
    decoded = decode(data, accept)
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
    try:
        packed = unquote(payload).encode("ascii").translate(None, _SPACES)
        if len(packed) > MAX_BYTES * 4 // 3 + 4:
            raise ImageTooLarge(f"the image has more than {MAX_BYTES:,} bytes", param="image_url")
        return base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ImageUnreadable("the data URL is not valid base64", param="image_url") from None
