"""Samplers as tables: one step of any sampler is a small linear map.

diffusers' schedulers are linear in the latents x, the model's output, fresh noise and what they
remember of earlier steps. So a sampler with n steps is a table: the timestep of each model call,
the factor on its input, and the map

    [x', memory'] = carry . [x, memory] + gain * output + spread * noise

Samples of any sampler, any step count and at any step then share one model call. `probing` reads
the maps from the model's own scheduler.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch.nn.functional import pad


@dataclass(frozen=True, slots=True, eq=False)
class SamplerTable:
    """A sampler at one step count: K model calls, M memory slots, S = 1 + M.

    `timesteps` (K,), `input_scale` (K,), `carry` (K, S, S), `gain` (K, S), `spread` (K, S), `clean`
    (K, 2): float32 on the CPU. `clean`: the factors on the scaled input and on the output whose sum
    is the model's guess of the latents without noise. `init_sigma`: factor on the initial noise;
    `stochastic`: a step draws noise.
    """

    timesteps: torch.Tensor
    input_scale: torch.Tensor
    carry: torch.Tensor
    gain: torch.Tensor
    spread: torch.Tensor
    clean: torch.Tensor
    init_sigma: float
    stochastic: bool

    @property
    def num_calls(self) -> int:
        return len(self.timesteps)

    @property
    def num_slots(self) -> int:
        return self.carry.shape[1]


@lru_cache(maxsize=1024)
def numbers_of(table: SamplerTable, slots: int) -> torch.Tensor:
    """(K, 2 + 2 `slots` + `slots`^2): each step's timestep, input scale, gain, spread and carry, as
    if the sampler had `slots` slots."""
    calls, spare = table.num_calls, slots - table.num_slots
    parts = (
        table.timesteps[:, None],
        table.input_scale[:, None],
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
    """One step of B samples. state (B, S, C, H, W); output, noise (B, C, H, W); carry (B, S, S);
    gain, spread (B, S); all float32. Elementwise, so a sample's bits do not depend on the others.
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
