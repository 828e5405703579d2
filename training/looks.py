"""Looks: what a style makes of a picture, whatever was edited in it. The contract of `edits`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from training.crops import Colours
from training.edits import luma, mix, rgb, smoothstep

# Two inks on paper, dark to bright, evenly spaced: indigo, coral where they meet, cream.
INKS = np.array([[0.11, 0.10, 0.36], [0.93, 0.38, 0.36], [0.99, 0.94, 0.80]], dtype=np.float32)


def film(image: Colours) -> Colours:
    """Warm colour film: a soft curve, muted colours, blacks lifted to teal, whites to amber."""
    image = np.clip(image, 0, 1)
    soft = 0.09 + 0.83 * mix(image, image * image * (3 - 2 * image), 0.5)
    bright = luma(soft)
    shadows = (1 - bright) ** 2 * rgb(-0.05, 0.035, 0.075)
    lights = bright**2 * rgb(0.10, 0.02, -0.19)
    return np.clip(mix(bright, soft, 0.72) + shadows + lights, 0, 1).astype(np.float32)


def riso(image: Colours) -> Colours:
    """A print of two inks on cream paper, as a Risograph makes it."""
    bright = luma(np.clip(image, 0, 1))[..., 0]
    place = mix(bright, smoothstep(0.05, 0.9, bright), 0.7) * (len(INKS) - 1)
    steps = np.arange(len(INKS))
    inks = [np.interp(place, steps, INKS[:, channel]) for channel in range(3)]
    return np.stack(inks, axis=-1).astype(np.float32)


LOOKS: dict[str, Callable[[Colours], Colours]] = {"film": film, "riso": riso}
