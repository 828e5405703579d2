"""How a photograph meets the model's canvas and comes back: by a stretch only if asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from engine.canvas import canvas_of, canvas_scale, stretched_canvas, whole_size
from engine.errors import OptionInvalid
from engine.images import MAX_PIXELS
from engine.options import EditOptions
from engine.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Geometry:
    """The way of a source to the model's canvas and back, in px."""

    box: tuple[float, float, float, float]  # (left, top, right, bottom) of the source, resized to
    inner: tuple[int, int]  # this (width, height), around which is put
    padding: tuple[int, int, int, int]  # this much, (left, top, right, bottom)
    output: tuple[int, int]  # the final (width, height)


def plan_geometry(source: tuple[int, int], options: EditOptions, spec: ModelSpec) -> Geometry:
    """Choose the geometry of an edit of a `source` (width, height) in px.

    Raises `OptionInvalid` for a size the model cannot do.
    """
    spec.check_size(options.size_px)
    if options.restore_size and options.resize == "crop":
        raise OptionInvalid(
            "restore_size needs the whole picture: use resize=fit, pad or stretch",
            param="restore_size",
        )
    pixels = source[0] * source[1] * options.num_images
    if options.restore_size and pixels > MAX_PIXELS:
        raise OptionInvalid(
            f"restore_size: {options.num_images} x {source[0]}x{source[1]} px is more than "
            f"{MAX_PIXELS:,} pixels; ask for fewer images, or for a size",
            param="restore_size",
        )
    if options.resize == "stretch":
        canvas = options.size_px or stretched_canvas(source, spec)
        output = source if options.restore_size else canvas
        return Geometry((0, 0, *source), canvas, (0, 0, 0, 0), output)
    if options.restore_size or options.resize == "pad":
        return _pad(source, options, spec)
    if options.resize == "fit" and spec.canvas == "at_most_area" and not options.size_px:
        canvas = canvas_of(source, spec)
        return Geometry(
            _cut_box(source, canvas, whole_size(source, spec)), canvas, (0, 0, 0, 0), canvas
        )
    square = (spec.resolution, spec.resolution)
    canvas = options.size_px or (square if options.resize == "crop" else canvas_of(source, spec))
    return Geometry(_centre_box(source, canvas), canvas, (0, 0, 0, 0), canvas)


def reference_geometry(source: tuple[int, int], spec: ModelSpec) -> Geometry:
    """Choose how a further source, (width, height) in px, meets a canvas of its own.

    Whatever the options of the edit: as diffusers' pipelines bring it there. FLUX.2's cut the edges
    to the multiple, the others stretch the whole of it.
    """
    canvas = stretched_canvas(source, spec)
    whole = (0.0, 0.0, float(source[0]), float(source[1]))
    cuts = spec.canvas == "at_most_area"
    box = _cut_box(source, canvas, whole_size(source, spec)) if cuts else whole
    return Geometry(box, canvas, (0, 0, 0, 0), canvas)


def _centre_box(
    source: tuple[int, int], canvas: tuple[int, int]
) -> tuple[float, float, float, float]:
    """The largest centred part of `source` with the aspect of `canvas` (`ImageOps.fit`)."""
    scale = min(source[0] / canvas[0], source[1] / canvas[1])
    left, top = (source[0] - canvas[0] * scale) / 2, (source[1] - canvas[1] * scale) / 2
    return max(left, 0.0), max(top, 0.0), source[0] - max(left, 0.0), source[1] - max(top, 0.0)


def _cut_box(
    source: tuple[int, int], canvas: tuple[int, int], whole: tuple[int, int]
) -> tuple[float, float, float, float]:
    """The part of `source` that is the centre of it, resized to `whole`, in whole pixels: where
    nothing is resized no pixel changes (diffusers' `Flux2ImageProcessor`)."""
    if whole[0] < canvas[0] or whole[1] < canvas[1]:  # thinner than the multiple
        return _centre_box(source, canvas)
    left, top = (whole[0] - canvas[0]) // 2, (whole[1] - canvas[1]) // 2
    x, y = source[0] / whole[0], source[1] / whole[1]
    right, bottom = left + canvas[0], top + canvas[1]
    return left * x, top * y, min(right * x, source[0]), min(bottom * y, source[1])


def _pad(source: tuple[int, int], options: EditOptions, spec: ModelSpec) -> Geometry:
    """The whole picture on the canvas; what is added around it is cut off again."""
    bound = options.size_px or (spec.resolution, spec.resolution)
    rounded = options.resize == "fit" and not options.size_px
    inside = min(bound[0] / source[0], bound[1] / source[1])
    scale = canvas_scale(source, spec) if rounded else inside
    inner = (max(round(source[0] * scale), 1), max(round(source[1] * scale), 1))
    canvas = bound
    if rounded:
        multiple = spec.multiple
        canvas = (-(-inner[0] // multiple) * multiple, -(-inner[1] // multiple) * multiple)
    left, top = (canvas[0] - inner[0]) // 2, (canvas[1] - inner[1]) // 2
    padding = (left, top, canvas[0] - inner[0] - left, canvas[1] - inner[1] - top)
    output = source if options.restore_size else inner
    return Geometry((0, 0, *source), inner, padding, output)


def to_canvas(image: Image.Image, geometry: Geometry) -> np.ndarray:
    """Bring a source to the canvas, (H, W, 3) uint8 RGB: one Lanczos resize, edges replicated."""
    inner = image
    if image.size != geometry.inner or geometry.box != (0, 0, *image.size):
        inner = image.resize(geometry.inner, Image.Resampling.LANCZOS, box=geometry.box)
    left, top, right, bottom = geometry.padding
    return np.pad(np.asarray(inner), ((top, bottom), (left, right), (0, 0)), mode="edge")


def cut_padding(pixels: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Cut off what was put around the picture: (H, W, ...) of a canvas -> its inner part."""
    left, top, right, bottom = geometry.padding
    height, width = pixels.shape[:2]
    return pixels[top : height - bottom, left : width - right]


def from_canvas(pixels: np.ndarray, geometry: Geometry) -> Image.Image:
    """Bring an edited canvas, (H, W, 3) uint8, without its padding to the output size."""
    image = Image.fromarray(np.ascontiguousarray(cut_padding(pixels, geometry)))
    if image.size == geometry.output:
        return image
    return image.resize(geometry.output, Image.Resampling.LANCZOS)
