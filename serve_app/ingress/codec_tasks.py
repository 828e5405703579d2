"""The functions that run in the decode processes: sources to pixels, edited pixels to files."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np

from engine.geometry import Geometry, from_canvas
from engine.images import encode
from engine.options import ResolvedOptions
from engine.sources import Prepared, prepare, read_data_url
from engine.spec import ModelSpec

MAX_WEBP_PIXELS = 40_000_000  # libwebp needs more than PNG or JPEG: 44 million fit, 50 do not


def prepare_source(
    id: str, source: bytes | str, instruction: str, options: ResolvedOptions, spec: ModelSpec
) -> Prepared:
    """Decode a source to model size. `source`: an image file, or a data URL. Raises `ImageError`
    and `OptionError`."""
    data = read_data_url(source) if isinstance(source, str) else source
    return prepare(id, data, instruction, options, spec)


def render(
    images: Sequence[np.ndarray], geometry: Geometry, format: str, quality: int | None
) -> tuple[list[str], tuple[int, int]]:
    """Encode edited canvases, (H, W, 3) uint8 RGB; returns base64 files, and their common
    (width, height) in px."""
    restored = (from_canvas(image, geometry) for image in images)  # one at a time: 4 bytes a pixel
    files = [base64.b64encode(encode(image, format, quality)).decode() for image in restored]
    return files, geometry.output


def load() -> None:
    """Load what the other functions need, by being found in this module."""
