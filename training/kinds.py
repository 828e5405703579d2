"""The kinds of edit that pocket learns: name -> arithmetic, share of the training, and parts.

A kind's parts name its code (see `codes`): ("tint", "red") is red as "make it red" means it, and
("night", "fog") is one edit after the other. Kinds that share a part share what they teach.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from training import edits, local_edits
from training.crops import Colours

Edit = Callable[[Colours, float], Colours]

STRENGTHS = (0.92, 1.08)  # the range that training draws from; evaluation uses 1


@dataclass(frozen=True)
class Kind:
    """One kind of edit."""

    name: str
    steps: tuple[Edit, ...]
    parts: tuple[str, ...]
    weight: float = 1.0
    local: bool = False

    def apply(self, image: Colours, strength: float = 1.0) -> Colours:
        """(H, W, 3) float32 in 0..1 -> the edited picture, clipped to 0..1."""
        for step in self.steps:
            image = np.clip(step(image, strength), 0, 1).astype(np.float32)
        return image


def plain(name: str, edit: Edit, weight: float = 1.0, local: bool = False) -> Kind:
    """A kind of one step."""
    return Kind(name, (edit,), (name,), weight, local)


def coloured(family: str, edit: Callable[..., Colours], colour: str, weight: float) -> Kind:
    """A kind that takes a colour, named `family_colour`."""
    local = family != "tint"
    step = partial(edit, colour=colour)
    return Kind(f"{family}_{colour}", (step,), (family, colour), weight, local)


BASE: tuple[Kind, ...] = (
    plain("black_and_white", edits.black_and_white),
    plain("sepia", edits.sepia),
    plain("brighter", edits.brighter),
    plain("darker", edits.darker),
    plain("contrast", edits.contrast),
    plain("vivid", edits.vivid),
    plain("faded", edits.faded),
    plain("warm", edits.warm),
    plain("cool", edits.cool),
    plain("night", edits.night),
    plain("sunset", edits.sunset),
    plain("fog", edits.fog),
    plain("winter", edits.winter),
    plain("autumn", edits.autumn),
    plain("pencil_sketch", edits.pencil_sketch, 1.5),
    plain("poster", edits.poster, 1.5),
    plain("pixel_art", edits.pixel_art, 1.5),
    plain("blur", edits.blur),
    plain("negative", edits.negative, 1.3),
    plain("neon", edits.neon, 1.5),
    plain("thermal", edits.thermal, 1.3),
    plain("blueprint", edits.blueprint, 1.2),
    plain("vignette", local_edits.vignette, 1.2, True),
    plain("centre_focus", local_edits.centre_focus, 1.2, True),
    *(
        coloured("tint", edits.tint, c, 0.7)
        for c in ("red", "orange", "yellow", "green", "blue", "purple", "pink")
    ),
    *(coloured("sky", local_edits.sky, c, 0.9) for c in ("pink", "blue", "orange")),
    *(coloured("keep", local_edits.keep_colour, c, 0.9) for c in ("red", "green", "blue")),
    *(coloured("frame", local_edits.frame, c, 0.7) for c in ("white", "black")),
)
BY_NAME: dict[str, Kind] = {kind.name: kind for kind in BASE}


def compound(first: str, second: str, weight: float = 0.6) -> Kind:
    """`first`, then `second`; its code is the sum of theirs."""
    one, two = BY_NAME[first], BY_NAME[second]
    local = one.local or two.local
    return Kind(f"{first}+{second}", one.steps + two.steps, one.parts + two.parts, weight, local)


COMPOUNDS: tuple[Kind, ...] = (
    compound("fog", "night"),
    compound("winter", "night"),
    compound("black_and_white", "vignette"),
    compound("sepia", "frame_white"),
    compound("sunset", "vignette"),
    compound("vivid", "frame_black"),
)
KINDS: dict[str, Kind] = {kind.name: kind for kind in BASE + COMPOUNDS}
