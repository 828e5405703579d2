"""One denoising step of many samples, as tensors, computed by a pure function.

Every shape of a `Step` follows from a few counts, so a step can be replayed as a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

import torch

from engine.adapter import Adapter
from engine.adapters import Adapters
from engine.guidance import weigh
from engine.models import Combining, Editor, Inputs
from engine.sampling import advance

Predict = Callable[[torch.Tensor, torch.Tensor, Inputs, Hashable], torch.Tensor]
Combine = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class KnownRegion:
    """The parts of B masked samples that stay the source's; float32 on the device."""

    mask: torch.Tensor  # (B, 1, h, w); 1: may change
    source: torch.Tensor  # (B, C, h, w)
    first: torch.Tensor  # (B, C, h, w), the first noise


@dataclass(frozen=True, slots=True)
class Call:
    """The branches of B samples, N in all, of one layout; the same at each of their steps.

    The last of the B and of the N may only fill a bucket: they are copies of the first.
    """

    owner: torch.Tensor  # (N,) int64: the sample of each branch
    index: (
        torch.Tensor
    )  # (B, R) int64: the branches of each sample; its first one where it has less
    weights: torch.Tensor  # (B, R) float32: how they count; 0 where a sample has less than R
    inputs: Mapping[str, torch.Tensor]  # each (N, ...)
    layout: Hashable
    known: KnownRegion | None  # None: nothing is masked
    padding: int  # how many of the N only fill a bucket
    adapter: Adapter | None  # of all of them
    lora_scales: torch.Tensor | None  # (N,) float32: how strongly it acts on each branch


@dataclass(frozen=True, slots=True)
class Step:
    """All that a step reads; float32 on the device."""

    state: torch.Tensor  # (B, S, C, h, w)
    noise: torch.Tensor  # (B, C, h, w)
    coefficients: torch.Tensor  # (B, 4 + 2 S + S S), a row of `sampling.coefficients_of` each
    call: Call


@dataclass(frozen=True, slots=True)
class StepResult:
    """All that a step makes; float32 on the device."""

    state: torch.Tensor  # (B, S, C, h, w), the next one
    latents: torch.Tensor  # (B, C, h, w), scaled: what the model was shown
    output: torch.Tensor  # (B, C, h, w), guided


class Denoiser:
    """The pure function from a `Step` to its `StepResult`, for one editor."""

    def __init__(self, editor: Editor, adapters: Adapters) -> None:
        self._adapters = adapters
        self._predict: Predict = editor.predict
        self._combine: Combine = editor.combine if isinstance(editor, Combining) else weigh

    def __call__(self, step: Step) -> StepResult:
        """Make one model call, guide, and move one step.

        A sample's values come from its own branches alone, elementwise, so beside the model call no
        bit of it depends on the others.
        """
        call, slots = step.call, step.state.shape[1]
        times, scales, known, gain, spread, carry = step.coefficients.split(
            [1, 1, 2, slots, slots, slots * slots], dim=1
        )
        self._adapters.apply(call.adapter, call.lora_scales)
        latents = step.state[:, 0] * scales[:, :, None, None]
        predicted = self._predict(
            latents[call.owner], times[call.owner, 0], call.inputs, call.layout
        )
        output = self._combine(predicted[call.index], call.weights)
        carry = carry.unflatten(1, (slots, slots))
        state = advance(step.state, output, step.noise, carry, gain, spread)
        if call.known is not None:
            state[:, 0] = _keep(state[:, 0], call.known, known)
        return StepResult(state, latents, output)


def _keep(latents: torch.Tensor, region: KnownRegion, known: torch.Tensor) -> torch.Tensor:
    """The latents (B, C, h, w) where they may change, else the source at their level: its factors
    and the first noise's are `known` (B, 2). A mask of 1 changes no bit of them."""
    source, first = known[:, 0, None, None, None], known[:, 1, None, None, None]
    level = source * region.source + first * region.first
    return region.mask * latents + (1 - region.mask) * level
