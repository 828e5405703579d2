"""Triplets (image, instruction, edited image), made the way InstructPix2Pix's were: generated.

The image is a crop of a photograph, the edit is array arithmetic, the instruction is a phrasing of
that kind of edit. The share of instructions and images that are dropped is InstructPix2Pix's:
5% the instruction, 5% the image, 5% both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.crops import Colours, CropSampler
from training.kinds import KINDS, STRENGTHS

DROP_TEXT, DROP_IMAGE, DROP_BOTH = 0.05, 0.05, 0.05
KINDS_PER_CROP = 2
DULL = 0.012  # mean absolute change, of 1, under which an edit shows nothing on this crop


@dataclass(frozen=True)
class Triplets:
    """A batch: N = edits, M = crops, `crop_of[i]` the crop that edit i was made from."""

    crops: Colours  # (M, H, W, 3) in 0..1
    edited: Colours  # (N, H, W, 3) in 0..1
    kinds: list[str]  # N names
    crop_of: NDArray[np.int64]  # (N,)
    drop_text: NDArray[np.bool_]  # (N,)
    drop_image: NDArray[np.bool_]  # (N,)


class TripletSampler:
    """Draws batches of triplets; each crop is edited in two ways, so that the words must tell."""

    def __init__(self, crops: CropSampler, seed: int, weights: dict[str, float]) -> None:
        self.crops = crops
        self.random = np.random.default_rng(seed)
        self.names = list(KINDS)
        shares = np.array([KINDS[n].weight * weights.get(n, 1.0) for n in self.names])
        self.shares = shares / shares.sum()

    def edit(self, crop: Colours) -> tuple[str, Colours]:
        """A kind that shows on this crop, and the edited crop (the last one tried if none does)."""
        name, edited = "", crop
        for _ in range(4):
            name = self.names[self.random.choice(len(self.names), p=self.shares)]
            edited = KINDS[name].apply(crop, float(self.random.uniform(*STRENGTHS)))
            if float(np.abs(edited - crop).mean()) > DULL:
                break
        return name, edited

    def draw(self, count: int, size_px: int) -> Triplets:
        """`count` triplets of (size_px, size_px) pictures from count / 2 crops."""
        crops = self.crops.batch(count // KINDS_PER_CROP, size_px)
        crop_of = np.repeat(np.arange(len(crops)), KINDS_PER_CROP)
        made = [self.edit(crops[i]) for i in crop_of]
        chance = self.random.random(len(made))
        both = chance < DROP_BOTH
        text = both | (chance > 1 - DROP_TEXT)
        image = both | ((chance >= DROP_BOTH) & (chance < DROP_BOTH + DROP_IMAGE))
        edited = np.stack([picture for _, picture in made])
        return Triplets(crops, edited, [name for name, _ in made], crop_of, text, image)
