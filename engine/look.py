"""The look of a picture in numbers: its colours, and its texture."""

from __future__ import annotations

import cv2
import numpy as np

from engine.edit import Look
from engine.quality.grey import reduced

BORDER = 0.125  # of each side: the band that is mostly background
_RING = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))  # around a pixel
_PATTERNS = 10  # 0 to 8 brighter neighbours in one run, and all else


def look_of(pixels: np.ndarray) -> Look:
    """Measure a picture (H, W, 3) uint8 RGB, reduced to 256 px at most."""
    small = reduced(pixels)
    lab, border_lab = _colours(small)
    return Look(tuple(lab.tolist()), tuple(border_lab.tolist()), tuple(texture_of(small).tolist()))


def texture_of(pixels: np.ndarray) -> np.ndarray:
    """Count the local binary patterns of a picture (H, W, 3) uint8: (10,) float64, sum 1.

    The eight neighbours of a pixel, as bright as it or not, by how many are where they are one
    run, else all the same: riu2 of Ojala, Pietikainen and Maenpaa 2002, on the square of 3 x 3.
    """
    grey: np.ndarray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    centre = grey[1:-1, 1:-1]
    code: np.ndarray = np.zeros(centre.shape, np.uint8)
    for bit, (y, x) in enumerate(_RING):
        neighbour = grey[1 + y : height - 1 + y, 1 + x : width - 1 + x]
        code |= (neighbour >= centre).view(np.uint8) << np.uint8(bit)
    counts = np.bincount(code.ravel(), minlength=256)
    return np.bincount(_PATTERN_OF, counts, minlength=_PATTERNS) / code.size


def _pattern(code: int) -> int:
    """Name the pattern of eight bits: how many are set where they are one run, else the last."""
    bits = [code >> bit & 1 for bit in range(8)]
    changes = sum(bits[i] != bits[i - 1] for i in range(8))
    return sum(bits) if changes <= 2 else _PATTERNS - 1


_PATTERN_OF = np.array([_pattern(code) for code in range(256)])


def _colours(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average CIE L*a*b* (D65; L in 0..100) over a picture, and over the band along its sides."""
    lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    top, left = (max(round(side * BORDER), 1) for side in lab.shape[:2])
    inner = lab[top:-top, left:-left]
    total, of_inner = lab[..., 0].size, inner[..., 0].size
    whole, mean = (np.array(cv2.mean(part)[:3]) for part in (lab, inner))
    return whole, (whole * total - mean * of_inner) / (total - of_inner)
