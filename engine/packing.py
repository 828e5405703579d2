"""Which samples share a model call, and their tensors side by side."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch.nn.functional import pad

from engine.guidance import BRANCHES
from engine.models import ContractBroken, Editor, Inputs
from engine.options import Determinism
from engine.samples import Sample
from engine.sampling import coefficients_of
from engine.step import Call, KnownRegion, Step

MAX_SLOTS = 6  # PNDM's: the latents and five tensors of memory
LENGTH_BUCKET = 64  # ragged inputs are padded to a multiple of it

# Padded counts of branches and samples: at most a third of a call is padding.
BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


class Packer:
    """Packs samples of one lane into calls and steps."""

    def __init__(self, editor: Editor, determinism: Determinism, *, whole: bool) -> None:
        """`whole`: all steps of a count of samples have one shape, whatever their samplers, so that
        few CUDA graphs serve them."""
        self._ragged = editor.ragged
        self._num_branches = len(BRANCHES[editor.spec.guidance])
        self._whole = whole
        self._bucketed = whole or determinism == "bucket"  # counts fill a bucket
        self._fills_lengths = self._bucketed and determinism != "strict"

    def groups(self, samples: Sequence[Sample]) -> list[list[Sample]]:
        """Sort samples into those that can share a call, in their order."""
        groups: dict[Hashable, list[Sample]] = {}
        for sample in samples:
            groups.setdefault(self._group(sample), []).append(sample)
        return list(groups.values())

    def pack_call(self, samples: Sequence[Sample]) -> Call:
        """Pack the branches of samples of one group; raises `ContractBroken`."""
        packed = [(i, row) for i, sample in enumerate(samples) for row in sample.rows]
        width = self._num_branches if self._bucketed else _most_branches(samples)
        index, weights, first = [], [], 0
        for sample in samples:
            count = len(sample.conditioning.rows)
            index.append([*range(first, first + count), *[first] * (width - count)])
            weights.append([*sample.conditioning.weights, *[0.0] * (width - count)])
            first += count
        padding = bucket(len(packed)) - len(packed) if self._bucketed else 0
        filled = self._filled(samples)
        spare = len(filled) - len(samples)
        packed += packed[:1] * padding
        device = samples[0].state.device
        return Call(
            owner=_move(torch.tensor([i for i, _ in packed]), device),
            index=_move(torch.tensor(index + index[:1] * spare), device),
            weights=_move(torch.tensor(weights + weights[:1] * spare, dtype=torch.float32), device),
            inputs=self._inputs([row for _, row in packed]),
            layout=samples[0].conditioning.layout,
            known=_known(filled),
            padding=padding,
            adapter=samples[0].live.lane.adapter,
            lora_scales=_lora_scales([samples[i] for i, _ in packed]),
        )

    def pack_step(self, samples: Sequence[Sample], call: Call) -> Step:
        """Pack the current step of these samples; the slots that a sample lacks are zero."""
        filled = self._filled(samples)
        slots = MAX_SLOTS if self._whole else max(sample.table.num_slots for sample in samples)
        device = samples[0].state.device
        state = samples[0].state.new_zeros((len(filled), slots, *samples[0].state.shape[1:]))
        for i, sample in enumerate(filled):
            state[i, : len(sample.state)] = sample.state
        coefficients = torch.stack([coefficients_of(s.table, slots)[s.calls_done] for s in filled])
        noise = torch.zeros_like(state[:, 0])
        if any(sample.table.stochastic for sample in samples):
            noise = _move(torch.stack([sample.step_noise() for sample in filled]), device)
        return Step(state, noise, _move(coefficients, device), call)

    def _filled(self, samples: Sequence[Sample]) -> list[Sample]:
        spare = bucket(len(samples)) - len(samples) if self._bucketed else 0
        return [*samples, *[samples[0]] * spare]

    def _group(self, sample: Sample) -> Hashable:
        """The layout and, where lengths fill a bucket, which one: no neighbour may change it."""
        row, layout = sample.conditioning.rows[0], sample.conditioning.layout
        if not self._fills_lengths:
            return layout
        ragged = sorted(self._ragged & row.keys())
        return layout, tuple(self._padded_length(len(row[name])) for name in ragged)

    def _padded_length(self, longest: int) -> int:
        return -(-longest // LENGTH_BUCKET) * LENGTH_BUCKET if self._fills_lengths else longest

    def _inputs(self, rows: Sequence[Inputs]) -> Inputs:
        _check_rows(rows, self._ragged)
        return {name: self._stacked(name, [row[name] for row in rows]) for name in rows[0]}

    def _stacked(self, name: str, tensors: list[torch.Tensor]) -> torch.Tensor:
        """One tensor (N, ...); what is ragged ends in zeros, up to the length of the call."""
        if name in self._ragged:
            length = self._padded_length(max(len(tensor) for tensor in tensors))
            tensors = [pad(t, [*[0, 0] * (t.ndim - 1), 0, length - len(t)]) for t in tensors]
        return torch.stack(tensors)


def _check_rows(rows: Sequence[Inputs], ragged: frozenset[str]) -> None:
    """Raises `ContractBroken` where an input that is not ragged differs in shape, or a ragged one
    has no mask beside it."""

    def kinds(row: Inputs) -> dict[str, tuple[object, ...]]:
        return {
            name: (t.dtype, t.shape[1:] if name in ragged else t.shape) for name, t in row.items()
        }

    for row in rows:
        if kinds(row) != kinds(rows[0]):
            raise ContractBroken(
                f"branches of one layout differ in shape, and only {sorted(ragged)} may differ in "
                f"length: {kinds(rows[0])} and {kinds(row)}"
            )
    padded = ragged & set(rows[0])
    if padded and not any(rows[0][name].dtype == torch.bool for name in padded):
        raise ContractBroken(f"no mask (bool) is among the ragged inputs {sorted(padded)}")


def _lora_scales(samples: Sequence[Sample]) -> torch.Tensor | None:
    """How strongly the adapter acts on each of these; None where they have none."""
    if samples[0].live.lane.adapter is None:
        return None
    scales = [sample.live.request.options.scale("lora_scale") for sample in samples]
    return _move(torch.tensor(scales, dtype=torch.float32), samples[0].state.device)


def _most_branches(samples: Sequence[Sample]) -> int:
    return max(len(sample.conditioning.rows) for sample in samples)


def _known(samples: Sequence[Sample]) -> KnownRegion | None:
    masks = [sample.conditioning.mask for sample in samples]
    if all(mask is None for mask in masks):
        return None
    if any(mask is None for mask in masks):
        raise ContractBroken("a request with a mask and one without are in one lane")
    sources, firsts = [sample.source for sample in samples], [sample.first for sample in samples]
    return KnownRegion(torch.stack(masks), torch.stack(sources), torch.stack(firsts))


def _move(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """To the device; to a GPU without waiting for what it is doing."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def bucket(count: int) -> int:
    """Return the smallest padded count that holds `count`."""
    return next((size for size in BUCKETS if size >= count), count)
