"""Poor sources: what is wrong with a photograph before anything is done with it.

Each is looked for on a small copy of one size, so that a photograph is judged as it is seen on a
screen, not by its pixels, in milliseconds. What was measured: benchmarks/RESULTS.md.
"""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from engine.quality.sharpness import sharpness

SIDE_PX = 512  # of the longest side of the copy
SHARPEST = 0.1  # of the tiles: where not even these are sharp, nothing is
BLURRY = 1.7  # their sharpness, below which they are not
DARK_MEDIAN, DARK_TOP = 0.3, 0.4  # of 0..1; night has lights, underexposure has none
TOP = 0.98  # the quantile of brightness that counts as its light
# Light in stops: the sides' median against the median and the lights of the middle. A logistic
# regression on 300 pictures of wallpapers, as they are and spoiled, rounded.
BACKLIT_MEDIAN, BACKLIT_LIGHTS, BACKLIT = 0.7, 0.6, 2.2
BACKLIT_STEP = 1.0  # stops that the sides are lighter, at the least
LIGHTS = 0.9  # the quantile that counts as the middle's lights
NO_LIGHT = 2**-8  # of 0..1, where a camera's noise ends what 8 bits tell
CENTRE = 0.3  # of a side: half the width and height of the middle, an ellipse
BORDER = 0.125  # of a side: the band along the sides
SMALL = 0.5  # of the model's resolution


def find_poor(image: Image.Image, resolution_px: int) -> list[str]:
    """Find what makes a poor source of a photograph: codes of `engine.edit.WARNINGS`.

    `image`: RGB, upright; `resolution_px`: side of a square that its model was trained at.
    """
    grey = _small_grey(image)
    found = []
    if _is_blurry(grey):
        found.append("source_blurry")
    if _is_dark(grey):
        found.append("source_dark")
    if _is_backlit(grey):
        found.append("source_backlit")
    if min(image.size) < SMALL * resolution_px:
        found.append("source_small")
    return found


def _small_grey(image: Image.Image) -> np.ndarray:
    """Average a photograph to `SIDE_PX` at most, (h, w) float32 levels of brightness."""
    longest = max(image.size)
    whole = longest // SIDE_PX
    pixels = np.asarray(image.reduce(whole) if whole > 1 else image)
    scale = SIDE_PX / longest
    if scale < 1:
        size = tuple(max(round(side * scale), 1) for side in image.size)
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)


def _is_blurry(grey: np.ndarray) -> bool:
    sharpest = sharpness(grey, SHARPEST)
    return sharpest is not None and sharpest < BLURRY


def _is_dark(grey: np.ndarray) -> bool:
    median, top = np.quantile(grey, (0.5, TOP)) / 255
    return bool(median < DARK_MEDIAN and top < DARK_TOP)


def _is_backlit(grey: np.ndarray) -> bool:
    """Whether the middle is far darker than the band along the sides, the lower one left out:
    there a subject stands."""
    height, width = grey.shape
    down, across = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    middle = grey[(across / (2 * CENTRE)) ** 2 + (down / (2 * CENTRE)) ** 2 <= 1]
    beside, above = max(round(BORDER * width), 1), max(round(BORDER * height), 1)
    sides = np.concatenate(
        [grey[:above].ravel(), grey[:, :beside].ravel(), grey[:, -beside:].ravel()]
    )
    centre, lights = _stops(np.quantile(middle, (0.5, LIGHTS)))
    around = _stops(np.median(sides))
    far_darker = around > BACKLIT_MEDIAN * centre + BACKLIT_LIGHTS * lights + BACKLIT
    return bool(far_darker and around - centre > BACKLIT_STEP)


def _stops(level: np.ndarray) -> np.ndarray:
    """Turn sRGB levels of 0..255 into stops of light below white, by sRGB's curve."""
    value = level / 255
    light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return np.log2(light + NO_LIGHT)
