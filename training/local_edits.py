"""Local edits: one part of the picture changes, the rest stays. Same contract as `edits`."""

from __future__ import annotations

import numpy as np

from training.crops import Colours
from training.edits import (
    COLOURS,
    FRAME_SHARE,
    Plane,
    black_and_white,
    blur,
    centre_distance,
    height_share,
    luma,
    mix,
    rgb,
    smoothstep,
    soften,
)


def vignette(image: Colours, strength: float = 1.0) -> Colours:
    """Dark towards the corners."""
    return image * (1 - 0.95 * strength * smoothstep(0.45, 1.25, centre_distance(image)))


def centre_focus(image: Colours, strength: float = 1.0) -> Colours:
    """The centre stays sharp, the surroundings go out of focus."""
    return mix(image, blur(image, 1.3 * strength), smoothstep(0.35, 0.75, centre_distance(image)))


def frame(image: Colours, strength: float, colour: str) -> Colours:
    """A plain border, a tenth of the shorter side wide."""
    height, width = image.shape[:2]
    border = max(4, round(min(height, width) * FRAME_SHARE * strength))
    framed = np.empty_like(image)
    framed[:] = rgb(*COLOURS[colour])
    inside = (slice(border, height - border), slice(border, width - border))
    framed[inside] = image[inside]
    return framed


def sky_mask(image: Colours) -> Plane:
    """(H, W, 1): bright or blue, and in the upper part of the picture."""
    blueness = image[..., 2:] - image[..., :1]
    bright = smoothstep(0.30, 0.62, luma(image) + 0.6 * np.maximum(blueness, 0))
    mask = bright * smoothstep(0.25, 0.6, height_share(image))
    return soften(mask, 1.5)


def sky(image: Colours, strength: float, colour: str) -> Colours:
    """The sky in another colour."""
    painted = rgb(*COLOURS[colour]) * (0.45 + 0.6 * luma(image))
    return mix(image, painted, sky_mask(image) * 0.92)


def colour_mask(image: Colours, colour: str) -> Plane:
    """(H, W, 1): 1 where red, green or blue clearly leads the other two channels."""
    channel = {"red": 0, "green": 1, "blue": 2}[colour]
    others = [c for c in range(3) if c != channel]
    lead = image[..., channel] - image[..., others].max(axis=-1)
    return soften(smoothstep(0.04, 0.16, lead[..., None]), 0.6)


def keep_colour(image: Colours, strength: float, colour: str) -> Colours:
    """Black and white except for one colour, which is strengthened."""
    grey = black_and_white(image)
    return mix(grey, mix(luma(image), image, 1.5), colour_mask(image, colour))
