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
WEAKEST = 0.06 * 255, 0.105 * 255  # between these, Otsu's threshold says what counts as edited
# Of the square of a change, which is the mean over the channels: its colour, and its brightness.
COLOUR_WEIGHT, BRIGHTNESS_WEIGHT = 1.2, 0.7
SOFTNESS = 1.2  # at this many times the threshold a pixel is wholly the edit's
CALM_SHARE = 0.3  # of the canvas, the least changed, tells how far the model shifts all of it
MOST_SHIFT = 0.06 * 255  # a greater one is the edit

# An edit is global where it changed this share of the pixels, or of the source's detail, or where
# it left less than this share of the detail of all other pixels as it was, in brightness or colour.
GLOBAL_PIXELS = 0.7
GLOBAL_DETAIL = 0.82
LEAST_LEFT = 0.5
NONE_LEFT = 0.15  # where less is left, what the calmest pixels have in common is the edit
# It is global, too, where more of the square of its change than this is faint: too much for noise,
# too little to count as edited. To keep the source's there would take the edit back.
MOST_FAINT = 0.15
FAINT = VISIBLE / 2
# Detail is what an average over the first radius has and one over the second has not: colour's is
# looked for on a coarser scale, for on a finer one an autoencoder loses it anyway.
_CHANGED_PX = 0, 2
_BRIGHTNESS_PX = 0, 1
_COLOUR_PX = 2, 5


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
    edited = np.clip(np.einsum("oihw,ihw->ohw", local.slope, source) + smooth, 0, 255)
    change = edited - source
    strength = _strength(change)
    left = _detail_left(source, edited, strength > VISIBLE)
    shift = 0.0 if left < NONE_LEFT else _common_shift(change, strength)
    corrected = _strength(change - shift)
    threshold = _threshold(corrected)
    outside = corrected <= threshold
    squares = corrected * corrected
    faint = squares[outside & (corrected > FAINT)].sum() / max(squares.sum(), 1.0)
    return EditMap(
        correction=smooth - local.offset - shift,
        threshold=threshold,
        changed_share=1 - float(outside.mean()),
        outside_change=float(_levels(change[:, outside]).mean()) if outside.any() else 0.0,
        is_global=bool(left < LEAST_LEFT or faint > MOST_FAINT),
    )


def _levels(change: np.ndarray) -> np.ndarray:
    """(3, ...) -> (...): root mean square over the channels."""
    return np.sqrt(np.einsum("c...,c...->...", change, change) / np.float32(3))


def _strength(change: np.ndarray) -> np.ndarray:
    """(3, ...) -> (...): the same, colour weighted before brightness."""
    squares, total = np.einsum("c...,c...->...", change, change), change.sum(axis=0)
    of_brightness = np.float32((COLOUR_WEIGHT - BRIGHTNESS_WEIGHT) / 9)
    return np.sqrt(np.float32(COLOUR_WEIGHT / 3) * squares - of_brightness * total * total)


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


def _detail_left(source: np.ndarray, edited: np.ndarray, changed: np.ndarray) -> float:
    """The share of detail that the edit left alone in the pixels that it did not visibly change.

    The lesser of the shares in brightness and in colour, each from the slope of a regression, which
    a model's noise does not move: about 1 outside of a local edit, 0 where nearly all is changed.
    What is gained beyond it counts as what is lost.
    """
    detail = (_band(source, _CHANGED_PX) ** 2).sum(axis=0)
    if changed.mean() >= GLOBAL_PIXELS or detail[changed].sum() >= GLOBAL_DETAIL * detail.sum():
        return 0.0 if changed.any() else 1.0
    kept = ~changed
    level = kept.sum()  # detail of one level counts as left: there is hardly any to lose
    both = np.stack([source, edited])
    brightness = both.mean(axis=1, keepdims=True)
    shares = []
    for planes, radii in ((brightness, _BRIGHTNESS_PX), (both - brightness, _COLOUR_PX)):
        before, after = _band(planes, radii)[..., kept]
        slope = (level + (before * after).sum()) / (level + (before * before).sum())
        shares.append(1 - abs(1 - slope))
    return float(min(shares))


def _band(planes: np.ndarray, radii: tuple[int, int]) -> np.ndarray:
    """What an average over the first radius has, and one over the second has not."""
    return box_mean(planes, radii[0]) - box_mean(planes, radii[1])
