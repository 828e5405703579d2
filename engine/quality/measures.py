"""What an edit did to a picture, in numbers, and which of them are a warning.

A result is compared with its reference: what an edit of nothing would have given. Both are reduced
to one small size, so that 24 megapixels cost as little as a canvas.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from PIL import Image

from engine.edit import Measured
from engine.options import Measures
from engine.quality.colour import clipped, find_cast
from engine.quality.displacement import displacement
from engine.quality.grey import grey_of, reduced_size
from engine.quality.sharpness import sharpness_ratio, tile_slopes
from engine.quality.structure import edge_correlation, entropy, ssim

# The bounds of the warnings. What was measured: benchmarks/RESULTS.md.
BLANK = 1.0, 2.0  # bits: a result with less is blank, if its reference has more than the second
BLURRY = 0.85  # of the reference's sharpness
UNCHANGED = 6.0  # levels: where no tile of 8 x 8 changed by more, nothing is to be seen of the edit
LOST = 0.2  # a result whose edges correlate less shows another picture
TILES = 8  # along each side


def measure(
    result: Image.Image, reference: np.ndarray, wanted: Measures
) -> tuple[Measured, list[str]]:
    """Measure a result beside its reference, and name what is to be warned of.

    `result`: RGB, of the same part as the reference, (h, w, 3) uint8 RGB, at any size. `wanted`:
    "fast", or "full" with `displacement`. The names are codes of `engine.edit.WARNINGS`.
    """
    height, width = reference.shape[:2]
    size = reduced_size((min(width, result.width), min(height, result.height)))
    after = np.asarray(result.resize(size, Image.Resampling.BOX, reducing_gap=2.0))
    before = cv2.resize(reference, size, interpolation=cv2.INTER_AREA)
    grey_before, grey_after = grey_of(before), grey_of(after)
    squares = (after.astype(np.float32) - before) ** 2
    measured = Measured(
        sharpness_ratio=sharpness_ratio(tile_slopes(grey_before), tile_slopes(grey_after)),
        entropy=entropy(grey_after),
        colour_cast=float(np.linalg.norm(find_cast(before, after))),
        clipped=clipped(before, after),
        ssim=ssim(grey_before, grey_after),
        edge_correlation=edge_correlation(grey_before, grey_after),
        change=float(np.sqrt(squares.mean())),
        displacement=displacement(grey_before, grey_after) if wanted == "full" else None,
    )
    tiles = cv2.resize(squares.mean(axis=-1), (TILES, TILES), interpolation=cv2.INTER_AREA)
    most = float(np.sqrt(tiles.max()))
    return measured, list(_warnings(measured, entropy(grey_before), most))


def _warnings(of: Measured, entropy_before: float, most: float) -> Iterator[str]:
    """Name what a result is suspected of. `entropy_before`: of its reference, in bits; `most`: how
    far its most changed tile is from that, in levels."""
    if of.entropy < BLANK[0] and entropy_before > BLANK[1]:
        yield "result_blank"
        return  # of which nothing more is to be said
    if most < UNCHANGED:
        yield "result_unchanged"
    if of.sharpness_ratio is not None and of.sharpness_ratio < BLURRY:
        yield "result_blurry"
    if of.colour_cast:
        yield "result_cast"
    if of.edge_correlation < LOST:
        yield "structure_lost"
