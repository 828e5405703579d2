"""A pair of pictures, before and after an edit, in numbers: is it a pair to learn from?"""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from engine.edit import PairScores

SIDE_PX = 256  # of the longest side that is looked at: one scale for every canvas, and cheap
EDGE_PX = 0.7  # sigma of the blur before an edge is looked for
LEAST_EDGES = 1e-3  # levels: the deviation of an edge map that has no edge


def score_pair(before: Image.Image, after: Image.Image) -> PairScores:
    """Compare two RGB pictures of one size, both reduced to `SIDE_PX` at most."""
    source, edited = _reduced(before), _reduced(after)
    difference = edited.astype(np.float32) - source
    return PairScores(
        change=float(np.sqrt((difference * difference).mean())),
        edge_correlation=_edge_correlation(source, edited),
    )


def _edge_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's r of the slopes of two pictures: 1 where neither has an edge, 0 where one has
    none."""
    one, two = _edges(first), _edges(second)
    flat = [edges.std() < LEAST_EDGES for edges in (one, two)]
    if any(flat):
        return float(all(flat))
    return float(np.corrcoef(one.ravel(), two.ravel())[0, 1])


def _edges(pixels: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    smooth = cv2.GaussianBlur(grey, (0, 0), EDGE_PX)
    return np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))


def _reduced(image: Image.Image) -> np.ndarray:
    """Average a picture to (h, w, 3) uint8 of `SIDE_PX` at most."""
    scale = min(SIDE_PX / max(image.size), 1)
    width, height = (max(round(side * scale), 1) for side in image.size)
    return cv2.resize(np.asarray(image), (width, height), interpolation=cv2.INTER_AREA)
