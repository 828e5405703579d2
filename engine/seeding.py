"""Seeds and noise: one CPU generator for each sample, so noise depends on its seed alone."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from engine.options import MAX_SEED

if TYPE_CHECKING:
    import torch


def draw_seed() -> int:
    """Draw a fresh seed for a request that names none."""
    return secrets.randbelow(MAX_SEED + 1)


def row_seed(job_seed: int, id: str, same_seed: bool = False) -> int:
    """Make the seed of a manifest row that names none: order, block and node never matter.

    `same_seed`: every row has the job's.
    """
    return job_seed if same_seed else _hash(f"{job_seed}:{id}")


def image_seed(seed: int, index: int) -> int:
    """Make the seed of image `index` of a request; image 0 has the request's own seed."""
    return seed if index == 0 else _hash(f"{seed}#{index}")


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


class NoiseSource:
    """The noise of one sample, as a diffusers pipeline draws it from a CPU generator of its seed.

    In diffusers' order: the source's posterior, where a family samples it, then the first latents,
    then the sampler's own noise step by step.
    """

    def __init__(self, seed: int, shape: tuple[int, ...], pictures: int = 1) -> None:
        """`shape`: (C, h, w) of a picture; so many `pictures` have the same noise."""
        import torch

        self._generator = torch.Generator("cpu").manual_seed(seed)
        self._shape = shape
        self._pictures = pictures

    def draw(self) -> torch.Tensor:
        """Draw standard normal noise (pictures C, h, w), float32, on the CPU."""
        import torch

        drawn = torch.randn((1, *self._shape), generator=self._generator)[0]
        return drawn.repeat(self._pictures, 1, 1)
