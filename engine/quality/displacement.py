"""Displacement: how far the structure of a picture moved, whatever became of its light and colours.

Where edges no longer lie on each other this tells a picture that moved from one that was redrawn.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from engine.quality.structure import edges_of

TILE = 0.25  # side of a tile, of the longest side of the picture; tiles overlap by half
LEAST_EDGES = 4.0  # levels: the deviation of the edges of a tile that has something to follow
LEAST_RESPONSE = 0.1  # of phase correlation, 1 where the tiles are equal; less is no match


def displacement(first: np.ndarray, second: np.ndarray) -> float | None:
    """Measure how far the median tile moved, as a share of the longest side.

    Phase correlation of edges (Kuglin and Hines 1975), tile by tile. Both (h, w) float32 levels;
    None where no tile of the second matches its own of the first.
    """
    side = min(round(TILE * max(first.shape)), *first.shape)
    one, two = edges_of(first), edges_of(second)
    window = cv2.createHanningWindow((side, side), cv2.CV_32F)
    moved = list(_moves(one, two, window))
    return float(np.median(moved)) / max(first.shape) if moved else None


def _moves(one: np.ndarray, two: np.ndarray, window: np.ndarray) -> Iterator[float]:
    """Yield by how many px each tile that can be followed moved."""
    side = len(window)
    for top in range(0, one.shape[0] - side + 1, max(side // 2, 1)):
        for left in range(0, one.shape[1] - side + 1, max(side // 2, 1)):
            here = np.s_[top : top + side, left : left + side]
            before, after = one[here], two[here]
            if min(before.std(), after.std()) < LEAST_EDGES:
                continue
            (right, down), response = cv2.phaseCorrelate(before, after, window)
            if response >= LEAST_RESPONSE:
                yield float(np.hypot(right, down))
