"""The canvas that a model edits a source on: one rule for each kind of family."""

from __future__ import annotations

import math

from engine.spec import ModelSpec


def canvas_of(source: tuple[int, int], spec: ModelSpec) -> tuple[int, int]:
    """Choose the canvas of a `source`, both (width, height) in px, by the rule of `spec.canvas`.

    side          the long side about `resolution` (InstructPix2Pix's `edit_cli.py`)
    area          `resolution` squared pixels in the source's aspect (Kontext, Qwen-Image-Edit)
    at_most_area  the source's own size, down to that area where it is larger (FLUX.2)

    Sides are multiples of `spec.multiple`, up to `spec.max_side`.
    """
    if spec.canvas == "side":
        return _by_side(source, spec)
    if spec.canvas == "at_most_area":
        width, height = (
            _multiple(side // spec.multiple, spec) for side in whole_size(source, spec)
        )
        return width, height
    scale = canvas_scale(source, spec)
    width, height = (_multiple(round(side * scale / spec.multiple), spec) for side in source)
    return width, height


def whole_size(source: tuple[int, int], spec: ModelSpec) -> tuple[int, int]:
    """Return the (width, height) in px that `at_most_area` resizes a whole source to, before its
    edges are cut to the multiple: its own where it is no larger than the area."""
    scale = canvas_scale(source, spec)
    return int(source[0] * scale), int(source[1] * scale)


def stretched_canvas(source: tuple[int, int], spec: ModelSpec) -> tuple[int, int]:
    """Choose the canvas that the whole of a `source` is stretched to, as diffusers' pipelines do.

    The one of `spec.sizes` whose aspect is nearest (FLUX.1 Kontext), else `canvas_of`.
    """
    if not spec.sizes:
        return canvas_of(source, spec)
    aspect = source[0] / source[1]
    return min(spec.sizes, key=lambda size: abs(aspect - size[0] / size[1]))


def canvas_scale(source: tuple[int, int], spec: ModelSpec) -> float:
    """Return the factor that brings the whole `source` to the size of the model's canvas."""
    if spec.canvas == "side":
        return spec.resolution / max(source)
    scale = spec.resolution / math.sqrt(source[0] * source[1])
    if spec.canvas == "at_most_area":
        scale = min(scale, 1.0)
    return min(scale, spec.max_side / max(source))


def _by_side(source: tuple[int, int], spec: ModelSpec) -> tuple[int, int]:
    """In whole numbers: the short side rounded up to the multiple, the long side down."""
    short, long = min(source), max(source)
    steps = -(-short * spec.resolution // (long * spec.multiple))
    sides = {short: steps, long: steps * long // short}
    return sides[source[0]] * spec.multiple, sides[source[1]] * spec.multiple


def _multiple(steps: int, spec: ModelSpec) -> int:
    most = spec.max_side // spec.multiple
    return min(max(steps, 1), most) * spec.multiple
