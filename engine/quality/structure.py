"""Structure: whether a result still shows the picture that it was made from, and shows anything."""

from __future__ import annotations

import cv2
import numpy as np

WINDOW_PX, WINDOW_SIGMA_PX = 11, 1.5  # of SSIM, as Wang et al. 2004 have it
STABLE = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # their constants, for levels of 0..255
EDGE_PX = 0.7  # sigma of the blur before an edge is looked for
LEAST_EDGES = 1e-3  # levels: the deviation of an edge map that has no edge


def ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Measure the structural similarity of two pictures, (h, w) float32 levels: 1 for equal ones.

    Mean over the picture; Wang, Bovik, Sheikh and Simoncelli 2004.
    """
    mean_1, mean_2 = _window(first), _window(second)
    variance_1 = _window(first * first) - mean_1 * mean_1
    variance_2 = _window(second * second) - mean_2 * mean_2
    together = _window(first * second) - mean_1 * mean_2
    light, detail = STABLE
    similar = (2 * mean_1 * mean_2 + light) * (2 * together + detail)
    similar /= (mean_1**2 + mean_2**2 + light) * (variance_1 + variance_2 + detail)
    return float(similar.mean())


def edge_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Correlate the edges of two pictures, (h, w) float32 levels: Pearson's r of their slopes.

    1 where neither has an edge, 0 where one has none.
    """
    one, two = edges_of(first), edges_of(second)
    flat = [edges.std() < LEAST_EDGES for edges in (one, two)]
    if any(flat):
        return float(all(flat))
    return float(np.corrcoef(one.ravel(), two.ravel())[0, 1])


def entropy(grey: np.ndarray) -> float:
    """Measure the entropy of a picture's levels in bits, 0 to 8.

    `grey`: (h, w) float32 levels. It sees blank pictures, and neither blur nor colour.
    """
    counts = np.bincount(grey.astype(np.uint8).ravel(), minlength=256)
    shares = counts[counts > 0] / grey.size
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def edges_of(grey: np.ndarray) -> np.ndarray:
    """Measure how steep brightness is at each pixel, (h, w) float32 levels -> the same."""
    smooth = cv2.GaussianBlur(grey, (0, 0), EDGE_PX)
    return np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))


def _window(plane: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(plane, (WINDOW_PX, WINDOW_PX), WINDOW_SIGMA_PX)
