"""Pairs (source, edited) for the judge, each with how far every answer is right.

Most are true edits, some of two kinds. The rest are what must not be taken for an edit: a part of
one, nothing, another photograph, noise. What pocket makes comes from `made`; `kept` holds both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from training.answers import NAMES, NONE, TrueEdits, row_of
from training.crops import Colours, CropSampler
from training.kinds import BASE, KINDS
from training.measures import INVISIBLE_DB, psnr

NOTHING = row_of({NONE: 1.0})
STRENGTHS = (0.85, 1.15)
TRIES = 4  # kinds tried on a crop until one shows
TWO, PART, UNCHANGED, ELSEWHERE, NOISE = 0.08, 0.12, 0.06, 0.06, 0.05  # shares of the pairs
SIDES_PX, SIDE_SHARES = (96, 128, 192), (0.35, 0.5, 0.15)  # pocket's canvas is 128 px
CUT_SHARE, CUT = 0.3, 2 / 3  # how many pictures are no squares, and what is left of a side
EDITS_PER_CROP = 6
# Of what a model does to a picture that it was not asked for, at most; in 0..1.
GRAIN, SOFT, GAIN, OFFSET = 0.03, 0.3, 0.05, 0.02


@dataclass(frozen=True)
class Pairs:
    """A batch."""

    sources: Tensor  # (N, 3, H, W) in 0..1
    edited: Tensor  # (N, 3, H, W) in 0..1
    answers: Tensor  # (N, 46) in 0..1: see `training.answers`


def planes(pictures: NDArray[np.uint8] | Colours) -> Tensor:
    """(N, H, W, 3) uint8, or float32 in 0..1 -> (N, 3, H, W) float32 in 0..1."""
    values = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()
    return values.float() / 255 if values.dtype == torch.uint8 else values


def sees(first: Colours, second: Colours) -> bool:
    """Whether two pictures can be told from each other."""
    return psnr(first, second) < INVISIBLE_DB


class PairSampler:
    """Draws batches of pairs."""

    def __init__(self, crops: CropSampler, seed: int) -> None:
        self.crops = crops
        self.random = np.random.default_rng(seed)
        self.base = [kind.name for kind in BASE]

    def strength(self) -> float:
        """How strongly a kind is applied: 1 as its phrasings mean it."""
        return float(self.random.uniform(*STRENGTHS))

    def one(self, crop: Colours) -> Colours:
        """A kind that shows on this crop; the crop itself if none does."""
        for _ in range(TRIES):
            edited = KINDS[str(self.random.choice(NAMES))].apply(crop, self.strength())
            if sees(edited, crop):
                return edited
        return crop

    def two(self, crop: Colours) -> tuple[Colours, Tensor | None]:
        """Two kinds, one after the other, of which both show; one where they do not."""
        first, second = self.random.choice(self.base, 2, replace=False)
        one, other = (KINDS[name].apply(crop, self.strength()) for name in (first, second))
        both = KINDS[second].apply(one, self.strength())
        if not (sees(one, crop) and sees(other, crop) and sees(both, one) and sees(both, other)):
            return self.one(crop), None
        if f"{first}+{second}" in KINDS:
            return both, None
        return both, row_of({NAMES.index(first): 0.5, NAMES.index(second): 0.5})

    def part(self, crop: Colours) -> Colours:
        """An edit that is only done in part."""
        return crop + (self.one(crop) - crop) * np.float32(self.random.random())

    def noise(self, crop: Colours) -> Colours:
        """An edit, or none, under noise that leaves little of it."""
        edited = self.one(crop) if self.random.random() < 0.5 else crop
        grain = self.random.standard_normal(crop.shape).astype(np.float32)
        return edited + grain * np.float32(self.random.uniform(0.25, 0.8))

    def pair(self, crop: Colours, other: Colours) -> tuple[Colours, Tensor | None]:
        """What became of a crop, and its answers where they are not those of the true edits.

        `other` is another crop.
        """
        shares = np.cumsum((TWO, PART, UNCHANGED, ELSEWHERE, NOISE))
        sort = int(np.searchsorted(shares, self.random.random(), side="right"))
        if sort == 0:
            return self.two(crop)
        if sort == 3:
            return self.one(other) if self.random.random() < 0.5 else other, NOTHING
        if sort == 4:
            return self.noise(crop), NOTHING
        if sort == 2:
            return crop.copy(), None
        return self.part(crop) if sort == 1 else self.one(crop), None

    def draw(self, count: int) -> Pairs:
        """`count` pairs of one size from count / 6 crops."""
        side_px = int(self.random.choice(SIDES_PX, p=SIDE_SHARES))
        crops = self.crops.batch(max(2, count // EDITS_PER_CROP), side_px)
        if self.random.random() < CUT_SHARE:
            cut = round(side_px * CUT)
            crops = crops[:, :cut] if self.random.random() < 0.5 else crops[:, :, :cut]
        of = np.arange(count) % len(crops)
        made, said = zip(*(self.pair(crops[i], crops[i - 1]) for i in of), strict=True)
        edited = np.clip(np.stack(made), 0, 1).astype(np.float32)
        truths = [TrueEdits(crop) for crop in crops]
        answers = [
            truths[i].answers(picture[None])[0] if answer is None else answer
            for i, picture, answer in zip(of, edited, said, strict=True)
        ]
        return Pairs(planes(crops[of]), planes(edited), torch.stack(answers))


def spoilt(edited: Tensor, random: np.random.Generator) -> Tensor:
    """Half of the pictures a little softer, coarser or tinged, as a model makes them."""

    def amounts(most: float, *shape: int) -> Tensor:
        some = random.random((len(edited), *shape, 1, 1)).astype(np.float32)
        return torch.from_numpy(some) * most

    softer = functional.avg_pool2d(edited, 3, stride=1, padding=1, count_include_pad=False)
    worse = edited.lerp(softer, amounts(SOFT, 1))
    worse = worse * (1 + amounts(2 * GAIN, 3) - GAIN) + amounts(2 * OFFSET, 3) - OFFSET
    worse = worse + torch.randn_like(edited) * amounts(GRAIN, 1)
    return torch.where(amounts(1.0, 1) < 0.5, worse.clamp(0, 1), edited)
