"""One denoising step of many samples, as tensors: packed here, computed by a pure function.

Every shape of a `Step` follows from a few counts, so a step can be replayed as a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from engine.models import Inputs
from engine.samples import Sample
from engine.sampling import advance, numbers_of

Predict = Callable[[torch.Tensor, torch.Tensor, Inputs], torch.Tensor]

MAX_BRANCHES = 3
MAX_SLOTS = 6  # PNDM's: the latents and five tensors of memory

# Padded counts of rows and samples: at most a third of a call is padding.
BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


@dataclass(frozen=True, slots=True)
class Rows:
    """The branch rows of B samples, N in all; the same at each of their steps.

    `owner` (N,): the sample of each row; `index` (B, 3): the row of each branch, `weights` (B, 3)
    float32: how it counts, 0 where a sample has no such branch; `inputs`: each (N, ...).
    `padding`: how many of the N only fill a bucket; they are copies of the first, and so are the
    samples that fill B.
    """

    owner: torch.Tensor
    index: torch.Tensor
    weights: torch.Tensor
    inputs: Mapping[str, torch.Tensor]
    padding: int


@dataclass(frozen=True, slots=True)
class Step:
    """What a step reads. `state` (B, S, C, h, w); `noise` (B, C, h, w); `numbers`
    (B, 2 + 2 S + S S): each sample's entry of its table; all float32."""

    state: torch.Tensor
    noise: torch.Tensor
    numbers: torch.Tensor
    rows: Rows


@dataclass(frozen=True, slots=True)
class Stepped:
    """What a step makes: the next `state`, and the scaled `latents` that the model was shown with
    its guided `output`, both (B, C, h, w)."""

    state: torch.Tensor
    latents: torch.Tensor
    output: torch.Tensor


def denoise(predict: Predict, step: Step) -> Stepped:
    """One model call, guidance and one sampler step. A sample's values come from its own rows
    alone, elementwise, so beside the model call no bit of it depends on the others."""
    rows, slots = step.rows, step.state.shape[1]
    times, scales, gain, spread, carry = step.numbers.split(
        [1, 1, slots, slots, slots * slots], dim=1
    )
    latents = step.state[:, 0] * scales[:, :, None, None]
    predicted = predict(latents[rows.owner], times[rows.owner, 0], rows.inputs)
    output = sum(
        (_weighted(rows, branch, predicted) for branch in range(1, MAX_BRANCHES)),
        start=_weighted(rows, 0, predicted),
    )
    carry = carry.unflatten(1, (slots, slots))
    state = advance(step.state, output, step.noise, carry, gain, spread)
    return Stepped(state, latents, output)


def _weighted(rows: Rows, branch: int, predicted: torch.Tensor) -> torch.Tensor:
    return rows.weights[:, branch, None, None, None] * predicted[rows.index[:, branch]]


def pack_rows(samples: Sequence[Sample], *, padded: bool) -> Rows:
    """The branch rows of these samples; `padded`: rows and samples fill a bucket each."""
    packed = [(i, row) for i, sample in enumerate(samples) for row in sample.rows]
    index, weights, first = [], [], 0
    for sample in samples:
        spare = MAX_BRANCHES - len(sample.rows)
        index.append([*range(first, first + len(sample.rows)), *[first] * spare])
        weights.append([*sample.weights, *[0.0] * spare])
        first += len(sample.rows)
    padding = bucket(len(packed)) - len(packed) if padded else 0
    spare_samples = bucket(len(samples)) - len(samples) if padded else 0
    packed += packed[:1] * padding
    index += index[:1] * spare_samples
    weights += weights[:1] * spare_samples
    device = samples[0].state.device
    return Rows(
        owner=_move(torch.tensor([i for i, _ in packed]), device),
        index=_move(torch.tensor(index), device),
        weights=_move(torch.tensor(weights, dtype=torch.float32), device),
        inputs={name: torch.stack([row[name] for _, row in packed]) for name in packed[0][1]},
        padding=padding,
    )


def pack_step(samples: Sequence[Sample], rows: Rows, *, whole: bool) -> Step:
    """The current step of these samples; the slots that a sample lacks are zero. `whole`: as many
    slots as any sampler has, so that all samplers make steps of one shape."""
    padded = [*samples, *[samples[0]] * (len(rows.index) - len(samples))]
    slots = MAX_SLOTS if whole else max(sample.table.num_slots for sample in samples)
    device = samples[0].state.device
    state = samples[0].state.new_zeros((len(padded), slots, *samples[0].state.shape[1:]))
    for i, sample in enumerate(padded):
        state[i, : len(sample.state)] = sample.state
    numbers = torch.stack([numbers_of(s.table, slots)[s.calls_done] for s in padded])
    noise = torch.zeros_like(state[:, 0])
    if any(sample.table.stochastic for sample in samples):
        noise = _move(torch.stack([sample.step_noise() for sample in padded]), device)
    return Step(state, noise, _move(numbers, device), rows)


def _move(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """To the device; to a GPU without waiting for what it is doing."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class Pace:
    """Keeps the host at most one step ahead of a GPU, so that a step's end is nearly its end."""

    def __init__(self, device: torch.device) -> None:
        self._last = torch.cuda.Event() if device.type == "cuda" else None

    def mark(self) -> None:
        """A step was launched: wait until the one before it is done."""
        if self._last is not None:
            self._last.synchronize()
            self._last = torch.cuda.Event()
            self._last.record()


def bucket(count: int) -> int:
    """The smallest padded count that holds `count`."""
    return next((size for size in BUCKETS if size >= count), count)
