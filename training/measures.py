"""How near two pictures are, and which true edit a result is nearest to."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.crops import Colours
from training.edits import luma
from training.further_kinds import FURTHER
from training.kinds import KINDS

SOURCE = "source"
ALIKE_DB = 28.0  # two true edits nearer than this (10 of 255) are not told apart on that photograph
INVISIBLE_DB = 30.0  # an edit that changes less than this shows nothing on that photograph


def psnr(first: Colours, second: Colours) -> float:
    """Decibels, for pictures in 0..1."""
    error = float(np.mean((first.astype(np.float64) - second) ** 2))
    return 10 * float(np.log10(1 / max(error, 1e-10)))


def distance(first: Colours, second: Colours) -> float:
    """Root mean square difference, of 255."""
    return 255 * float(np.sqrt(np.mean((first.astype(np.float64) - second) ** 2)))


def edge_map(image: Colours) -> NDArray[np.float64]:
    """Gradient magnitude of the brightness."""
    bright = ndimage.gaussian_filter(luma(image)[..., 0].astype(np.float64), 0.7)
    return np.asarray(np.hypot(ndimage.sobel(bright, axis=0), ndimage.sobel(bright, axis=1)))


def edge_correlation(first: Colours, second: Colours) -> float:
    """Pearson correlation of the two edge maps; 1 where neither has an edge."""
    one, two = edge_map(first).ravel(), edge_map(second).ravel()
    if one.std() < 1e-6 or two.std() < 1e-6:
        return 1.0
    return float(np.corrcoef(one, two)[0, 1])


def true_edits(source: Colours, further: Iterable[str] = ()) -> dict[str, Colours]:
    """Every kind's true edit of a picture, those of some `FURTHER` ones, and the picture itself."""
    kinds = KINDS | {name: FURTHER[name] for name in further}
    return {SOURCE: source, **{name: kind.apply(source) for name, kind in kinds.items()}}


def rivals(kind: str, truths: dict[str, Colours]) -> list[str]:
    """The true edits that `kind`'s can be told from on this photograph, the source included."""
    mine = truths[kind]
    return [n for n, t in truths.items() if n != kind and psnr(mine, t) < ALIKE_DB]


def shows(kind: str, truths: dict[str, Colours]) -> bool:
    """Whether the true edit can be seen on this photograph."""
    return psnr(truths[kind], truths[SOURCE]) < INVISIBLE_DB


def nearest(result: Colours, kind: str, truths: dict[str, Colours]) -> str:
    """The name of the true edit (or "source") that the result is nearest to, by PSNR."""
    candidates = [kind, *rivals(kind, truths)]
    return max(candidates, key=lambda name: psnr(result, truths[name]))
