"""Samplers as tables: one step of any sampler is a small linear map.

diffusers' schedulers are linear in the latents x, the model's output, fresh noise and what they
remember of earlier steps. So a sampler on a schedule is a table: the timestep of each model call,
the factor on its input, and the map

    [x', memory'] = carry . [x, memory] + gain * output + spread * noise

Samples of any sampler, any step count and at any step then share one model call.
`scheduler_tables` reads the maps from the model's own scheduler.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import pad


@dataclass(frozen=True, slots=True)
class Schedule:
    """The noise levels of a run, as a family asks its scheduler for them. Hashable."""

    num_inference_steps: int
    mu: float | None = None  # the shift of the levels, where it depends on canvas or steps
    linear: bool = False  # the levels before the shift are 1, 1 - 1/n, ..., 1/n
    begin: int | None = None  # the step that a run from the source begins at; None: from noise

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of a diffusers scheduler's `set_timesteps`."""
        n = self.num_inference_steps
        levels = {"sigmas": np.linspace(1.0, 1 / n, n)} if self.linear else {}
        shift = {} if self.mu is None else {"mu": self.mu}
        return {**(levels or {"num_inference_steps": n}), **shift}


class Mix(NamedTuple):
    """The factors on the source and on the noise whose sum is a noise level."""

    source: float
    noise: float


@dataclass(frozen=True, slots=True, eq=False)
class SamplerTable:
    """A sampler on one schedule: K model calls, M memory slots, S = 1 + M.

    All tensors are float32 on the CPU.
    """

    timesteps: torch.Tensor  # (K,)
    input_scale: torch.Tensor  # (K,): the model is shown the latents times this
    carry: torch.Tensor  # (K, S, S)
    gain: torch.Tensor  # (K, S)
    spread: torch.Tensor  # (K, S)
    clean: torch.Tensor  # (K, 2): scaled input and output, added up so, guess the clean latents
    known: torch.Tensor  # (K, 2): source and first noise, mixed so, are the level after each step
    start: Mix  # of the latents before the first step
    stochastic: bool  # a step draws noise

    @property
    def num_calls(self) -> int:
        """K, the model calls of a run."""
        return len(self.timesteps)

    @property
    def num_slots(self) -> int:
        """S, the latents and what the sampler remembers."""
        return self.carry.shape[1]


@lru_cache(maxsize=1024)
def coefficients_of(table: SamplerTable, slots: int) -> torch.Tensor:
    """Lay out each step's numbers in a row, as if the sampler had `slots` slots.

    (K, 4 + 2 `slots` + `slots`^2): timestep, input scale, `known`, gain, spread and carry.
    """
    calls, spare = table.num_calls, slots - table.num_slots
    parts = (
        table.timesteps[:, None],
        table.input_scale[:, None],
        table.known,
        pad(table.gain, (0, spare)),
        pad(table.spread, (0, spare)),
        pad(table.carry, (0, spare, 0, spare)).reshape(calls, -1),
    )
    return torch.cat(parts, dim=1)


def advance(
    state: torch.Tensor,
    output: torch.Tensor,
    noise: torch.Tensor,
    carry: torch.Tensor,
    gain: torch.Tensor,
    spread: torch.Tensor,
) -> torch.Tensor:
    """Move B samples one step along their samplers.

    state (B, S, C, h, w); output, noise (B, C, h, w); carry (B, S, S); gain, spread (B, S); all
    float32. Returns the next state. Elementwise, so a sample's bits do not depend on the others.
    """
    slots = range(state.shape[1])

    def per_sample(coefficient: torch.Tensor) -> torch.Tensor:
        return coefficient.view(-1, 1, 1, 1)

    rows = []
    for i in slots:
        row = per_sample(gain[:, i]) * output
        for j in slots:
            row = row + per_sample(carry[:, i, j]) * state[:, j]
        rows.append(row + per_sample(spread[:, i]) * noise)
    return torch.stack(rows, dim=1)
