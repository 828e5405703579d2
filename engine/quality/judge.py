"""Which of the edits that a small model knows happened between two pictures.

A folder's `judge/` holds a network that sees a picture before and after, and reads no instruction
(training/train_judge.py): what was asked for, in whichever language, is for the caller to compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.registry import read_json
from engine.weights import JUDGE

WEIGHTS = "model.safetensors"
PLANES = 8  # of the source 3, of the result 3, of where a pixel is 2
POOLED_EPSILON = 1e-4  # of a variance, so that its root has a slope at 0


def has_judge(folder: Path) -> bool:
    """Tell whether a model's folder has a judge."""
    return (folder / JUDGE / "config.json").exists()


class PocketJudge:
    """Tells which of a model's kinds of edit was made, from the pictures alone."""

    kinds: tuple[str, ...]  # their names, in the order of the columns of `answers`

    def __init__(self, network: JudgeNetwork, kinds: Sequence[str], side_px: int) -> None:
        """`network`: with an answer for each kind and one more; it sees `side_px` by `side_px`."""
        self.kinds = tuple(kinds)
        self._network = network
        self._side_px = side_px

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> Self:
        """Read `judge/` of a model's folder; raises `ModelError` and `OSError`."""
        from safetensors.torch import load_file

        config = read_json(folder / JUDGE / "config.json")
        network = JudgeNetwork(config["channels"], len(config["kinds"]) + 1)
        weights = load_file(folder / JUDGE / WEIGHTS)
        network.load_state_dict({name: weight.float() for name, weight in weights.items()})
        return cls(network.to(device).eval(), config["kinds"], config["side_px"])

    @torch.inference_mode()
    def answers(self, sources: Tensor, edited: Tensor) -> Tensor:
        """Say how sure it is of each kind of edit that it leads from each source to its result.

        Both (N, 3, H, W) float RGB in 0..1, of any height and width and on any device; they may
        differ in size, and should show the same part. Best as the model made them, before a crop.
        Returns (N, len(kinds) + 1) float32 in 0..1, each for itself: two kinds that look alike on a
        photograph have 1 both, and of an edit of two kinds each has half. The last column is for
        none of the kinds: unchanged, half done, another picture.
        """
        return self._network(self.planes(sources, edited)).float().sigmoid()

    def planes(self, sources: Tensor, edited: Tensor) -> Tensor:
        """Make what the network sees of such pictures: (N, 8, side, side) float32 in -1..1."""
        device = next(self._network.parameters()).device
        size = (self._side_px, self._side_px)
        small = [
            functional.interpolate(
                images.to(device, torch.float32), size, mode="bilinear", antialias=True
            )
            for images in (sources, edited)
        ]
        places = _places(self._side_px, device).expand(len(sources), 2, *size)
        return torch.cat([*small, places], dim=1) * 2 - 1


class Residual(nn.Module):
    """Two convolutions beside a straight way."""

    def __init__(self, channels: int) -> None:
        """`channels`: of its input, and so of its output."""
        super().__init__()
        self.inner = nn.Sequential(*_layers(channels, channels), *_layers(channels, channels)[:2])

    def forward(self, values: Tensor) -> Tensor:
        """(N, C, h, w) -> the same shape."""
        return functional.silu(values + self.inner(values))


class JudgeNetwork(nn.Module):
    """Strided convolutions; mean and deviation of what each finds go into two linear layers."""

    def __init__(self, channels: Sequence[int], answers: int) -> None:
        """`channels`: of each stage, at half the size of the one before; the last two are deep."""
        super().__init__()
        self.stages = nn.ModuleList()
        below = PLANES
        for number, above in enumerate(channels):
            deep = [Residual(above)] if number >= len(channels) - 2 else []
            self.stages.append(nn.Sequential(*_layers(below, above, stride=2), *deep))
            below = above
        self.hidden = nn.Linear(2 * sum(channels[1:]), below)
        self.answer = nn.Linear(below, answers)

    def forward(self, planes: Tensor) -> Tensor:
        """(N, 8, H, W) -> logits (N, answers)."""
        values, found = planes, []
        for stage in self.stages:
            values = stage(values)
            spread = values.float().var(dim=(2, 3)) + POOLED_EPSILON
            found += [values.float().mean(dim=(2, 3)), spread.sqrt()]
        return self.answer(functional.silu(self.hidden(torch.cat(found[2:], dim=1))))


def _layers(below: int, above: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(below, above, 3, stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(above), nn.SiLU()]


def _places(side_px: int, device: torch.device) -> Tensor:
    """(2, side, side): how far each pixel is from the middle, and how far down, 0 to 1."""
    along = torch.linspace(0, 1, side_px, device=device)
    down, across = torch.meshgrid(along, along, indexing="ij")
    away = ((down - 0.5) ** 2 + (across - 0.5) ** 2).sqrt() * 2**0.5
    return torch.stack([away, down])
