"""The order of training: what each step learns from is a function of the seed and the step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from engine.seeding import row_seed

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Step:
    """The triplets of one optimiser step, over all workers."""

    epoch: int  # from 0
    indices: Indices


@dataclass(frozen=True, slots=True)
class Order:
    """Shuffles the usable triplets anew for each epoch, and learns from each of them once in it."""

    usable: Indices
    batch: int  # triplets of a step; the last one of an epoch may have fewer
    seed: int

    @property
    def steps_an_epoch(self) -> int:
        """Count the steps in which every triplet comes once."""
        return math.ceil(len(self.usable) / self.batch)

    def at(self, step: int) -> Step:
        """Find what step `step`, from 0, learns from."""
        epoch, place = divmod(step, self.steps_an_epoch)
        places = _shuffled(len(self.usable), row_seed(self.seed, f"epoch {epoch}"))
        return Step(epoch, self.usable[places[place * self.batch : (place + 1) * self.batch]])

    def dice(self, epoch: int, index: int) -> torch.Generator:
        """Make the generator of one triplet in one epoch: its noise, its level, what is dropped."""
        return torch.Generator().manual_seed(row_seed(self.seed, f"{epoch}/{index}"))


@lru_cache(2)
def _shuffled(count: int, seed: int) -> Indices:
    return np.random.default_rng(seed).permutation(count)


@dataclass(frozen=True, slots=True)
class Part:
    """What one worker computes at a time: triplets, and whether each of them counts."""

    indices: Indices  # (batch,)
    weights: NDArray[np.float32]  # (batch,): 0 for one that fills up the part


def parts_of(step: Step, batch: int, worker: int, workers: int) -> Iterator[Part]:
    """Yield the parts of one worker: as many for each of them, each of `batch` triplets."""
    count = len(step.indices)
    parts = math.ceil(count / (batch * workers))
    filled = np.resize(step.indices, parts * workers * batch)
    weights = (np.arange(len(filled)) < count).astype(np.float32)
    for number in range(parts):
        first = (number * workers + worker) * batch
        yield Part(filled[first : first + batch], weights[first : first + batch])
