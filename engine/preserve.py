"""Which pixels an edit changed: all others may stay the source's, byte for byte.

The edit of a pixel is what the local map of `engine.detail` makes of the source's own pixel, less
that pixel: fitted in windows, it holds little of the model's noise, and its borders are those of
the source. Beside what was asked for, a model shifts the whole picture a little; the shift of the
least changed pixels is therefore taken off first.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from engine.detail import LocalMap, box_mean

# In levels of 0..255. What was measured: docs/decisions.md, "Where an edit happened".
VISIBLE = 0.06 * 255  # an edit of less is none
WEAKEST = 0.06 * 255, 0.10 * 255  # between these, Otsu's threshold says what counts as edited
SOFTNESS = 1.5  # at this many times the threshold a pixel is wholly the edit's
CALM_SHARE = 0.3  # of the canvas, the least changed, tells how far the model shifts all of it
MOST_SHIFT = 0.06 * 255  # a greater one is the edit

# An edit is global where it changed this share of the pixels, or of the source's detail, or where
# it can be seen at all and all but this share of it is one function of colour and place.
GLOBAL_PIXELS = 0.7
GLOBAL_DETAIL = 0.82
GLOBAL_REST = 0.08
LEAST_SEEN = 0.05  # of the pixels
_DETAIL_RADIUS_PX = 2


@dataclass(frozen=True, slots=True)
class EditMap:
    """Where an edit happened."""

    # (3, h, w) float32 levels: what makes of the difference of result and source, at any size, the
    # change that is judged: less noise, less shift.
    correction: np.ndarray
    threshold: float  # levels; a change of more counts as edited
    changed_share: float  # of the canvas, 0 to 1
    outside_change: float  # mean in levels, of the rest: how far the model moved it all the same
    is_global: bool  # there is nothing to keep

    def share(self, change: np.ndarray) -> np.ndarray:
        """How far each pixel is edited: 0 where it is not, 255 where it is wholly.

        `change`: (3, n, W) float32 levels, the result less the source, corrected. Returns (n, W)
        uint8.
        """
        steps = (_strength(change) - self.threshold) / ((SOFTNESS - 1) * self.threshold)
        steps = np.clip(steps, 0, 1)
        return (steps * steps * (3 - 2 * steps) * 255 + 0.5).astype(np.uint8)


def map_edit(local: LocalMap, source: np.ndarray) -> EditMap:
    """Judge where an edit happened, from its local map and the source's canvas.

    `source`: (3, h, w) float32 levels.
    """
    smooth = box_mean(local.offset, radius_px=1)
    edited = np.einsum("oihw,ihw->ohw", local.slope, source) + smooth
    change = np.clip(edited, 0, 255) - source
    strength = _strength(change)
    is_global = _is_global(change, strength > VISIBLE, source)
    shift = 0.0 if is_global else _common_shift(change, strength)
    corrected = _strength(change - shift)
    threshold = _threshold(corrected)
    outside = corrected <= threshold
    return EditMap(
        correction=smooth - local.offset - shift,
        threshold=threshold,
        changed_share=1 - float(outside.mean()),
        outside_change=float(strength[outside].mean()) if outside.any() else 0.0,
        is_global=is_global,
    )


def _strength(change: np.ndarray) -> np.ndarray:
    """(3, ...) -> (...): root mean square over the channels."""
    return np.sqrt(np.einsum("c...,c...->...", change, change) / np.float32(3))


def _common_shift(change: np.ndarray, strength: np.ndarray) -> np.ndarray | float:
    """(3, 1, 1): what the calmest pixels have in common; 0 where even they are edited."""
    calm = strength <= np.quantile(strength, CALM_SHARE)
    shift = np.median(change[:, calm], axis=1)
    return shift[:, None, None] if np.abs(shift).max() <= MOST_SHIFT else 0.0


def _threshold(strength: np.ndarray) -> float:
    """Otsu's threshold within bounds: beyond them it follows the histogram of a global edit."""
    levels = np.clip(strength * 2, 0, 255).astype(np.uint8)
    found, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_OTSU)
    return float(np.clip(found / 2, *WEAKEST))


def _is_global(change: np.ndarray, changed: np.ndarray, source: np.ndarray) -> bool:
    """Whether nearly everything changed, or nearly all of the change is one function."""
    detail = ((source - box_mean(source, _DETAIL_RADIUS_PX)) ** 2).sum(axis=0)
    if changed.mean() >= GLOBAL_PIXELS or detail[changed].sum() >= GLOBAL_DETAIL * detail.sum():
        return bool(changed.any())
    if changed.mean() < LEAST_SEEN:
        return False
    return bool(_rest(change, source) <= GLOBAL_REST)


def _rest(change: np.ndarray, source: np.ndarray) -> float:
    """The share of the change that is no affine function of colour and place."""
    down, across = np.mgrid[0 : 1 : source.shape[1] * 1j, 0 : 1 : source.shape[2] * 1j]
    terms = np.stack([*source / 255, np.ones_like(down), down, across]).reshape(6, -1)
    wanted = change.reshape(3, -1) / 255
    # einsum and not BLAS, whose sums depend on its threads
    squares, mixed = np.einsum("ik,jk->ij", terms, terms), np.einsum("ik,jk->ij", terms, wanted)
    fitted = np.einsum("ij,ik->jk", np.linalg.lstsq(squares, mixed, rcond=None)[0], terms)
    return float(((wanted - fitted) ** 2).sum() / (wanted**2).sum())
