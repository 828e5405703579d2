"""What a model family must offer; the loop owns everything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from engine.edit import EditRequest
from engine.guidance import Branch
from engine.registry import ModelSpec

if TYPE_CHECKING:
    import numpy as np
    import torch

Inputs = Mapping[str, "torch.Tensor"]


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What a request's samples are denoised under.

    `branches`: for each branch the model's inputs beside latents and timestep, by name, each
    without a batch axis; `latent_shape`: (C, h, w) of a sample.
    """

    branches: Mapping[Branch, Inputs]
    latent_shape: tuple[int, int, int]


class Editor(Protocol):
    """One family of editing models. All calls come from one thread, under inference mode."""

    device: torch.device
    scheduler_config: dict[str, Any]

    @classmethod
    def load(cls, folder: Path, spec: ModelSpec, device: torch.device, dtype: torch.dtype) -> Self:
        """The model of a diffusers folder, on `device`, its weights as `dtype`."""

    def tune(self, *, channels_last: bool, compile: bool) -> None:
        """Make the loaded model faster: channels-last weights, compiled repeated blocks."""

    def check(self, request: EditRequest) -> Sequence[str]:
        """Raises `RequestError` for what this model cannot do; returns warning codes.

        Called from any thread.
        """

    def encode(self, requests: Sequence[EditRequest]) -> list[Conditioning]:
        """Text and source image of requests whose pixels have one shape."""

    def predict(
        self, latents: torch.Tensor, timesteps: torch.Tensor, inputs: Inputs
    ) -> torch.Tensor:
        """One model call over N packed branch rows, each at its own timestep.

        latents (N, C, h, w) float32, already scaled; timesteps (N,) float32; each of `inputs`
        (N, ...). Returns (N, C, h, w) float32.
        """

    def decode(self, latents: torch.Tensor, *, float32: bool = False) -> list[np.ndarray]:
        """latents (N, C, h, w) float32 -> N arrays (H, W, 3) uint8 RGB.

        An image with a non-finite value raises `NonFinite`; `float32` computes without half
        precision's narrow range.
        """
