"""The contract of a model family; the loop owns everything else.

A family is one file here and its pipeline classes in `families.EDITORS`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from engine.config import Quantization, TextEncoderPlace
from engine.edit import EditRequest
from engine.sampling import Schedule
from engine.spec import ModelSpec

if TYPE_CHECKING:
    import numpy as np
    import torch

Inputs = Mapping[str, "torch.Tensor"]


class ContractBroken(Exception):
    """A family gave the loop what it cannot compute with: a fault of the code, of no request."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model's weights lie, and as what."""

    device: torch.device
    dtype: torch.dtype
    text_encoder: TextEncoderPlace = "device"  # of the text encoders alone
    quantization: Quantization = "none"  # of the denoiser alone


@dataclass(frozen=True, slots=True)
class Conditioning:
    """The conditions that a request's samples are denoised under; tensors on the device."""

    # For each branch the model's inputs beside latents and timestep, by name, each without a batch
    # axis. Row 0 has the instruction. All rows of a request have the same names, shapes and dtypes.
    rows: Sequence[Inputs]
    weights: Sequence[float]  # of the rows, from `guidance.branches`; none is 0
    latent_shape: tuple[int, int, int]  # (C, h, w) of a picture, in which the noise is drawn
    # All that is static in `predict` and told by no shape of the latents, such as the (h, w) of
    # each source's tokens: rows of equal layout share a call. Hashable, and free of tensors.
    layout: Hashable = ()
    source: torch.Tensor | None = None  # (C, h, w) float32, in the scale of the state
    deviation: torch.Tensor | None = None  # (C, h, w) float32, the posterior's: it is drawn from
    mask: torch.Tensor | None = None  # (1, h, w) float32; 1: may change, 0: stays the source's
    # In place of `rows` in the model calls outside of the edit's `ControlWindow`; () keeps them.
    outside: Sequence[Inputs] = ()
    understood_as: str | None = None  # see `EditResult`
    # Pictures that a sample makes of one noise: its state is (pictures C, h, w).
    pictures: int = 1

    def __post_init__(self) -> None:
        """Raises `ContractBroken` where rows, weights and source do not belong together."""
        rows = (*self.rows, *self.outside)
        shapes = [{name: (t.shape, t.dtype) for name, t in row.items()} for row in rows]
        if not shapes or any(other != shapes[0] for other in shapes):
            raise ContractBroken(f"the rows of one request differ in shape: {shapes}")
        if len(self.weights) != len(self.rows) or 0.0 in self.weights:
            raise ContractBroken(f"{len(self.rows)} rows have the weights {list(self.weights)}")
        if len(self.outside) not in (0, len(self.rows)):
            raise ContractBroken(f"{len(self.rows)} rows, and {len(self.outside)} outside")
        if self.source is None and (self.mask is not None or self.deviation is not None):
            raise ContractBroken("a mask or a deviation needs the source's latents")


class Editor(Protocol):
    """One family of editing models. All calls but `check` and `schedule` come from one thread,
    under inference mode. See also `Adapting`, `Combining` and `Judging`."""

    spec: ModelSpec
    device: torch.device
    scheduler_config: dict[str, Any]
    example: Schedule  # one that the model's own scheduler must be able to run
    # The inputs that may end in padding, because a mask among them (bool) says where: they alone
    # may differ in the length of their first axis from request to request of one layout.
    ragged: frozenset[str]

    @classmethod
    def describe(cls, folder: Path) -> ModelSpec:
        """Tell from the configuration files of a diffusers folder what the model is and takes.

        No weights are there yet. `name` and `source` are of the folder. Raises `ModelError`, or
        `KeyError` and `ValueError` for a configuration that is not this family's.
        """

    @classmethod
    def load(cls, folder: Path, spec: ModelSpec, placement: Placement) -> Self:
        """Load the model of a diffusers folder to where `placement` says, with `models.parts`.

        Further folders of `spec.parts` are found with `weights.find_part`.
        """

    def tune(self, *, channels_last: bool, compile: bool) -> None:
        """Make the loaded model faster: channels-last weights, compiled repeated blocks."""

    def schedule(self, request: EditRequest) -> Schedule:
        """Make the request's noise levels, from canvas, steps and strength. From any thread."""

    def check(self, request: EditRequest) -> Sequence[str]:
        """Return warning codes; raises `RequestError` for what this model cannot do.

        Called from any thread.
        """

    def encode(self, requests: Sequence[EditRequest]) -> list[Conditioning]:
        """Encode text and sources of requests of one lane: equal canvas, references, mask."""

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        inputs: Inputs,
        layout: Hashable,
    ) -> torch.Tensor:
        """Call the model over N packed branch rows, each at its own timestep.

        latents (N, C, h, w) float32, already scaled; timesteps (N,) float32; each of `inputs`
        (N, ...); `layout`: of the conditioning. Returns (N, C, h, w) float32. No value may come
        back to the host: a CUDA graph captures the call.
        """

    def decode(self, latents: torch.Tensor, *, float32: bool = False) -> list[np.ndarray]:
        """Decode latents (N, C, h, w) float32 to N arrays (H, W, 3) uint8 RGB.

        `float32` computes without half precision's narrow range. Raises `NonFinite` where an image
        holds a value that is not finite.
        """


@runtime_checkable
class Adapting(Protocol):
    """An `Editor` whose denoiser takes LoRA adapters."""

    denoiser: Any  # the UNet or transformer, whose linear layers and convolutions are adapted
    denoiser_part: str  # what a file calls it: unet, transformer
    lora_loader: str  # the class of `diffusers.loaders` that knows how such files are laid out


@runtime_checkable
class Combining(Protocol):
    """An `Editor` whose guidance is not linear."""

    def combine(self, predicted: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Guide: predicted (B, R, C, h, w), weights (B, R), both float32 -> (B, C, h, w).

        A sample with fewer than R branches has weights of 0 at the end, and copies of its row 0.
        """


@runtime_checkable
class Judging(Protocol):
    """An `Editor` that can tell whether a result is the edit that was asked for."""

    def following(
        self, request: EditRequest, images: Sequence[np.ndarray]
    ) -> Sequence[float] | None:
        """Say how sure it is of each image, (H, W, 3) uint8 RGB, from 0 to 1.

        None for an edit of which it knows nothing. A function of its arguments alone.
        """
