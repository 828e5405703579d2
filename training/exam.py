"""True edits of the held-out photographs: how many of them does a judge know?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from engine.quality.judge import PocketJudge
from training.answers import NAMES, NONE, TrueEdits
from training.crops import Colours
from training.measures import SOURCE, rivals, shows, true_edits
from training.pairs import planes
from training.photographs import Pixels, held_out, square

SIDE_PX = 128
TOGETHER = 48


def source_of(photograph: Pixels) -> Colours:
    """Its square as pocket edits it, in 0..1."""
    return square(photograph, SIDE_PX).astype(np.float32) / 255.0


def to_bytes(pictures: list[Colours]) -> Pixels:
    """As a model returns them: (N, H, W, 3)."""
    return (np.stack(pictures) * 255).round().astype(np.uint8)


def answers(judge: PocketJudge, sources: Pixels, edited: Pixels) -> Tensor:
    """(N, 46) on the CPU; both (N, H, W, 3)."""
    found = [
        judge.answers(planes(sources[start : start + TOGETHER]), planes(edited[start:][:TOGETHER]))
        for start in range(0, len(sources), TOGETHER)
    ]
    return torch.cat(found).cpu()


@dataclass(frozen=True)
class Exam:
    """Every edit that can be seen on its photograph."""

    sources: Pixels  # (N, 128, 128, 3)
    edited: Pixels  # (N, 128, 128, 3)
    kinds: list[str]
    told: Tensor  # (N, 46) bool: what it can be told from there, itself, and none

    @classmethod
    @cache
    def of_held_out(cls) -> Exam:
        """Of all eight photographs: 340 or so."""
        sources, edited, kinds, told = [], [], [], []
        for photograph in held_out().values():
            source = source_of(photograph)
            truths = true_edits(source)
            seen = [name for name in NAMES if shows(name, truths)]
            for name in seen:
                apart = {name, *rivals(name, truths)} - {SOURCE}
                told.append([*(other in apart for other in NAMES), True])
            sources += [source] * len(seen)
            edited += [truths[name] for name in seen]
            kinds += seen
        return cls(to_bytes(sources), to_bytes(edited), kinds, torch.tensor(told))

    def right(self, judge: PocketJudge) -> dict[str, list[bool]]:
        """Of each edit: is its kind the first answer?

        `all`: of all 46. `fair`: of none, and of the kinds that it can be told from there.
        """
        found = answers(judge, self.sources, self.edited)
        asked = torch.tensor([NAMES.index(kind) for kind in self.kinds])
        fair = found.masked_fill(~self.told, -1.0)
        return {
            "all": (found.argmax(dim=1) == asked).tolist(),
            "fair": (fair.argmax(dim=1) == asked).tolist(),
        }

    def unchanged(self, judge: PocketJudge) -> list[bool]:
        """Of each photograph as it is: is it surer of none than of every kind that shows on it?"""
        first = np.unique(self.sources, axis=0)
        found = answers(judge, first, first)
        for row, source in zip(found, first, strict=True):
            there = [*TrueEdits(source.astype(np.float32) / 255).shown, True]
            row[~torch.tensor(there)] = -1.0
        return (found.argmax(dim=1) == NONE).tolist()
