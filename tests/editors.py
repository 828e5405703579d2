"""Editors for tests: the embedded model with a fault that an instruction asks for."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

import torch

from engine.edit import EditRequest
from engine.models import Conditioning, Inputs
from engine.models.instruct_pix2pix import InstructPix2Pix
from engine.spec import ModelSpec
from tests.faults import commit_fault


class FaultyEditor(InstructPix2Pix):
    """Commits the faults of `tests.faults`; the instruction "nan in encode" is one more."""

    def encode(self, requests: Sequence[EditRequest]) -> list[Conditioning]:
        texts = [request.instruction for request in requests]
        commit_fault(requests)
        conditionings = super().encode(requests)
        return [
            poisoned(conditioning) if text == "nan in encode" else conditioning
            for text, conditioning in zip(texts, conditionings, strict=True)
        ]

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        inputs: Inputs,
        layout: Hashable,
    ) -> torch.Tensor:
        if torch.isnan(inputs["image"]).any() and len(latents) > 3:
            raise RuntimeError("injected fault: this model cannot batch NaN")
        return super().predict(latents, timesteps, inputs, layout)


def poisoned(conditioning: Conditioning) -> Conditioning:
    """The same under a source that is NaN."""
    rows = [{**row, "image": torch.full_like(row["image"], torch.nan)} for row in conditioning.rows]
    return replace(conditioning, rows=rows)


def faulty(spec: ModelSpec) -> ModelSpec:
    """`spec` with its editor replaced by one that fails on demand."""
    return replace(spec, editor="tests.editors:FaultyEditor")
