"""Kinds of edit that the factory makes and pocket was not taught: what a fine-tuning may teach it.

Their phrasings stand beside those of its own kinds, with a fifth held out; nothing but
`rayedit triplets --kind` and `training.evaluate --further` says them.
"""

from __future__ import annotations

import numpy as np

from training.crops import Colours
from training.edits import luma, rgb, soften
from training.kinds import KINDS, Kind, plain

STONE = rgb(0.62, 0.60, 0.56)  # a flat place of it
DEPTH = 2.6  # change of brightness for a slope of 1 across 2 px


def relief(image: Colours, strength: float = 1.0) -> Colours:
    """Grey stone, lit from the upper left, out of which what is bright stands."""
    height = soften(luma(image), 0.7)
    padded = np.pad(height, ((1, 1), (1, 1), (0, 0)), mode="edge")
    slope = padded[2:, 2:] - padded[:-2, :-2]
    return STONE * (1 + DEPTH * strength * slope)


FURTHER: dict[str, Kind] = {kind.name: kind for kind in (plain("relief", relief),)}
KINDS_AND_FURTHER = KINDS | FURTHER
