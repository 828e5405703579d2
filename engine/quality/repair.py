"""Repair: an edited canvas whose detail or colours the model lost, mended by its source's.

Nothing is repaired that the measures do not find spoiled: those come back as they are, byte for
byte.
"""

from __future__ import annotations

import cv2
import numpy as np

from engine.detail import fit_local_map, pixels_of, planes_of
from engine.edit import Repaired
from engine.options import Repair
from engine.quality.colour import find_cast, from_lab, to_lab
from engine.quality.grey import grey_of, reduced
from engine.quality.sharpness import Slopes, sharpness_ratio, tile_slopes

BLURRED = 0.85  # of the reference's sharpness: a result with less is sharpened
MOST_SHIFT = 6.0  # of a* and b*
_LEAST_PX, _MOST_PX = 0.3, 8.0  # sigma of a blur that is undone
_HALVINGS = 6  # of that range, in search of it


def repair(
    reconstructed: np.ndarray, edited: np.ndarray, wanted: Repair
) -> tuple[np.ndarray, tuple[Repaired, ...]]:
    """Mend an edited canvas, and say what was done to it.

    Both (h, w, 3) uint8 RGB without padding; `reconstructed`: the source after the autoencoder
    alone, which is what an edit of nothing would have given.
    """
    done: list[Repaired] = []
    if wanted in ("sharpen", "both"):
        sharp = _sharpened(reconstructed, edited)
        if sharp is not None:
            edited, done = sharp, [*done, "sharpened"]
    if wanted in ("colour", "both"):
        corrected = _corrected(reconstructed, edited)
        if corrected is not None:
            edited, done = corrected, [*done, "recoloured"]
    return edited, tuple(done)


def _sharpened(reference: np.ndarray, edited: np.ndarray) -> np.ndarray | None:
    """Give back the detail that a blur took, and only what the source has: None where it is sharp.

    The edit is fitted as a local affine function of the source with that blur, and applied to the
    source without it: see `engine.detail`. Where the edit took structure away its slope is small.
    """
    grey = grey_of(reference)
    before = tile_slopes(grey)
    ratio = sharpness_ratio(before, tile_slopes(grey_of(edited)))
    if ratio is None or ratio >= BLURRED:
        return None
    blurred = cv2.GaussianBlur(reference, (0, 0), _blur_of(grey, before, ratio))
    local = fit_local_map(blurred, edited)
    mapped = np.einsum("oihw,ihw->ohw", local.slope, planes_of(reference)) + local.offset
    return pixels_of(mapped)


def _blur_of(grey: np.ndarray, slopes: Slopes, ratio: float) -> float:
    """The sigma in px of the blur that leaves a picture this share of its sharpness; `slopes`: its
    own."""
    least, most = _LEAST_PX, _MOST_PX
    for _ in range(_HALVINGS):
        middle = (least * most) ** 0.5
        found = sharpness_ratio(slopes, tile_slopes(cv2.GaussianBlur(grey, (0, 0), middle)))
        if found is not None and found > ratio:
            least = middle
        else:
            most = middle
    return (least * most) ** 0.5


def _corrected(reference: np.ndarray, edited: np.ndarray) -> np.ndarray | None:
    """Take a cast off, by `MOST_SHIFT` at most: None where there is none."""
    cast = find_cast(reduced(reference), reduced(edited))
    size = float(np.linalg.norm(cast))
    if not size:
        return None
    lab = to_lab(edited)
    lab[..., 1:] -= cast * min(1.0, MOST_SHIFT / size)
    return from_lab(lab)
