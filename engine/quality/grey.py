"""A picture small and grey, as it is measured."""

from __future__ import annotations

import cv2
import numpy as np

SIDE_PX = 256  # of the longest side that is measured: one scale for every canvas, and cheap


def reduced_size(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) in px of a picture's small copy: itself where it is small."""
    scale = min(SIDE_PX / max(size), 1)
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def reduced(pixels: np.ndarray) -> np.ndarray:
    """Average a picture (H, W, 3) uint8 to `SIDE_PX` at most."""
    size = reduced_size((pixels.shape[1], pixels.shape[0]))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def grey_of(pixels: np.ndarray) -> np.ndarray:
    """Turn (h, w, 3) uint8 RGB into its brightness, (h, w) float32 levels."""
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
