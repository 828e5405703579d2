"""What runs in the decode processes: source bytes to pixels, edited pixels to files."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np

from engine.edit import EditOptions
from engine.geometry import Geometry, from_canvas
from engine.images import encode
from engine.registry import ModelSpec
from engine.sources import Prepared, prepare, read_data_url


def prepare_source(
    id: str, source: bytes | str, instruction: str, options: EditOptions, spec: ModelSpec
) -> Prepared:
    """`source`: an image file's bytes, or a data URL. Raises `ImageError` and `OptionError`."""
    data = read_data_url(source) if isinstance(source, str) else source
    return prepare(id, data, instruction, options, spec)


def render(
    images: Sequence[np.ndarray], geometry: Geometry, format: str, quality: int | None
) -> tuple[list[str], tuple[int, int]]:
    """Edited canvases as base64 files, and their common (width, height) in px."""
    outputs = [from_canvas(image, geometry) for image in images]
    files = [base64.b64encode(encode(output, format, quality)).decode() for output in outputs]
    return files, geometry.output


def warm_up() -> None:
    """Does nothing: that a process answers means that it is loaded."""
