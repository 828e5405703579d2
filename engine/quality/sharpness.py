"""Sharpness: how fine the detail of a picture is, whatever its light and its contrast."""

from __future__ import annotations

import cv2
import numpy as np

FINE_PX, COARSE_PX = 1.0, 4.0  # sigma of the blurs whose slopes are compared
TILES = 8  # along each side
SHARP = 1.6  # the ratio of slopes of a tile that is sharp enough to lose something
SOFTENED = 0.9  # of those tiles: an edit that softens a part leaves others
LEAST_SLOPE = 0.5  # levels a px after the coarse blur; a tile with less has no detail to judge

Slopes = tuple[np.ndarray, np.ndarray]  # of tiles, (8, 8) float32 each: fine, coarse


def tile_slopes(grey: np.ndarray) -> Slopes:
    """Measure how steep brightness is in each tile of a picture, after a fine and a coarse blur.

    `grey`: (h, w) float32 levels. Returns two (8, 8) float32, root mean squares in levels a px.
    """
    fine, coarse = (_slopes(cv2.GaussianBlur(grey, (0, 0), px)) for px in (FINE_PX, COARSE_PX))
    return fine, coarse


def sharpness(grey: np.ndarray, share: float) -> float | None:
    """Measure how sharp the sharpest `share` of the tiles of a picture is at least.

    The slope after a fine blur over that after a coarse one: 1 of a slow gradient, 2 of one edge
    that is a step, more of texture. `grey`: (h, w) float32 levels; None where no tile has detail.
    """
    fine, coarse = tile_slopes(grey)
    judged = coarse > LEAST_SLOPE
    if not judged.any():
        return None
    return float(np.quantile(fine[judged] / coarse[judged], 1 - share))


def sharpness_ratio(before: Slopes, after: Slopes) -> float | None:
    """Compare the sharpness of a result with its reference's, by the slopes of their tiles.

    Of the tiles in which the reference is sharp and the result still has detail, the ratio that
    `SOFTENED` of them are below. None where there is no such tile.
    """
    (fine, coarse), (fine_now, coarse_now) = before, after
    judged = (coarse > LEAST_SLOPE) & (fine > SHARP * coarse) & (coarse_now > LEAST_SLOPE)
    if not judged.any():
        return None
    ratios = (fine_now[judged] / coarse_now[judged]) / (fine[judged] / coarse[judged])
    return float(np.quantile(ratios, SOFTENED))


def _slopes(grey: np.ndarray) -> np.ndarray:
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    squares = (across * across + down * down) / np.float32(64)  # Sobel's 3 x 3 sums to 8
    tiles = cv2.resize(squares, (TILES, TILES), interpolation=cv2.INTER_AREA)
    return np.sqrt(tiles)
