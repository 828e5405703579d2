"""Pairs for the judge, small, on the disk: to draw one takes as long as to learn from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from training.pairs import Pairs

SIDE_PX = 64


def small(pictures: Tensor) -> Tensor:
    """(N, 3, H, W) in 0..1 -> (N, 3, 64, 64) uint8."""
    size = (SIDE_PX, SIDE_PX)
    reduced = functional.interpolate(pictures, size, mode="bilinear", antialias=True)
    return (reduced * 255).round().clamp(0, 255).to(torch.uint8).contiguous()


def keep(folder: Path, name: str, parts: int, draw: Callable[[], Pairs]) -> None:
    """Draw the parts that are missing; a line printed for each."""
    for number in range(parts):
        file = folder / f"{name}-{number:03d}.safetensors"
        if file.exists():
            continue
        pairs = draw()
        whole = {"sources": small(pairs.sources), "edited": small(pairs.edited)}
        save_file({**whole, "answers": pairs.answers}, file.with_suffix(".tmp"))
        file.with_suffix(".tmp").rename(file)
        print(f"{file.name}, {parts} of them in all", flush=True)


class Kept:
    """Those of one name."""

    def __init__(self, folder: Path, name: str, seed: int) -> None:
        parts = [load_file(file) for file in sorted(folder.glob(f"{name}-*.safetensors"))]
        self.sources, self.edited, self.answers = (
            torch.cat([part[key] for part in parts]) for key in ("sources", "edited", "answers")
        )
        self.random = np.random.default_rng(seed)

    def draw(self, count: int) -> Pairs:
        """`count` of them, half of the times mirrored."""
        chosen = torch.from_numpy(self.random.integers(0, len(self.answers), count))
        sources, edited = (every[chosen].float() / 255 for every in (self.sources, self.edited))
        if self.random.random() < 0.5:
            sources, edited = sources.flip(-1), edited.flip(-1)
        return Pairs(sources, edited, self.answers[chosen])
