"""Colour: a cast that lies over a result and is no part of its edit, and light that was lost.

Whether a colour is right only the instruction knows. A cast is told from an edit by this: it lies,
the same everywhere, over pixels on which nothing else was done, while something was done to others.
Where all of a picture was moved alike the shift is the edit, and where nothing was left alone
nobody can tell: there is no cast then.
"""

from __future__ import annotations

import cv2
import numpy as np

# In CIE L*a*b* (D65). What was measured: benchmarks/RESULTS.md.
LEAST_CAST, MOST_CAST = 3.0, 10.0  # less is the model's own error, more is the edit
ALIKE = 3.0  # shifts this near are one
EVEN = 1.2  # deviation of the shift of one cast, in a* and in b*: an edit varies with what it is on
STEADY = 4.0  # of L*: a pixel that was moved by less was not edited in its brightness
DARK = 10.0  # of L*: on pixels that are darker an edit of brightness does not show
LEFT_ALONE = 0.2  # of the picture, at least, has the cast and nothing else
MOSTLY = 0.5  # of the steady pixels have it
GREY = 2.0  # chroma; where a result has less, its colour was taken away, and no cast laid over it
EDITED, LEAST_EDITED = 8.0, 0.02  # a pixel that was moved by more was edited; of the picture
SMOOTH_PX = 5  # side of the box over which noise is averaged
MOST_CAST_BINS = 20  # of the histogram of shifts, on each side of 0, a bin for each unit
BURNT, DROWNED = 250, 5  # levels: white and black without detail, in all three channels


def find_cast(reference: np.ndarray, result: np.ndarray) -> np.ndarray:
    """Find the shift in a* and b* of a cast: (2,) float32, zeros where none can be told.

    Both (h, w, 3) uint8 RGB.
    """
    none = np.zeros(2, np.float32)
    before = to_lab(reference)
    after = to_lab(result)
    change = cv2.blur(after - before, (SMOOTH_PX, SMOOTH_PX))
    steady = (np.abs(change[..., 0]) < STEADY) & (before[..., 0] >= DARK)
    if steady.mean() < LEFT_ALONE:
        return none
    colours = change[..., 1:]
    cast = _commonest(colours[steady])
    alone = steady & (np.linalg.norm(colours - cast, axis=-1) < ALIKE)
    edited = np.linalg.norm(change - np.append(0, cast), axis=-1) > EDITED
    is_one = (
        LEAST_CAST <= np.linalg.norm(cast) <= MOST_CAST
        and alone.mean() >= max(LEFT_ALONE, MOSTLY * steady.mean())
        and edited.mean() >= LEAST_EDITED
        and colours[alone].std(axis=0).max() <= EVEN
        and np.linalg.norm(after[alone][:, 1:], axis=-1).mean() >= GREY
    )
    return cast if is_one else none


def clipped(reference: np.ndarray, result: np.ndarray) -> float:
    """Measure the share of pixels that became white or black without detail and were not: 0 to 1.

    Both (h, w, 3) uint8 RGB.
    """
    return float((_lost(result) & ~_lost(reference)).mean())


def to_lab(pixels: np.ndarray) -> np.ndarray:
    """Turn (h, w, 3) uint8 RGB into float32 L* (0 to 100), a*, b*."""
    return cv2.cvtColor(pixels.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2LAB)


def from_lab(lab: np.ndarray) -> np.ndarray:
    """Turn (h, w, 3) float32 L*a*b* into uint8 RGB."""
    rgb = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    return np.round(np.clip(rgb, 0, 1) * 255).astype(np.uint8)


def _commonest(shifts: np.ndarray) -> np.ndarray:
    """The shift that most of (n, 2) have, or are near to: the mean about the mode."""
    bound = MOST_CAST_BINS + 0.5
    bins, edges = 2 * MOST_CAST_BINS + 1, (-bound, bound)
    counts, *_ = np.histogram2d(shifts[:, 0], shifts[:, 1], bins, (edges, edges))
    smooth = cv2.GaussianBlur(counts.astype(np.float32), (0, 0), 1)
    mode = np.array(np.unravel_index(int(smooth.argmax()), smooth.shape)) - MOST_CAST_BINS
    near = np.linalg.norm(shifts - mode.astype(np.float32), axis=1) < ALIKE
    return shifts[near].mean(axis=0) if near.any() else np.zeros(2, np.float32)


def _lost(pixels: np.ndarray) -> np.ndarray:
    return (pixels.min(axis=-1) >= BURNT) | (pixels.max(axis=-1) <= DROWNED)
