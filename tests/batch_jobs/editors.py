"""Editors that answer at once: what is left of a job is its own work.

Nothing here imports a model: a process that needs no pixels is spared it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from engine.edit import EditRequest
from engine.models import Conditioning, Editor
from engine.registry import read_json
from engine.sampling import Schedule
from engine.spec import ModelSpec
from tests.faults import commit_fault

SIDE_PX = 8  # that a latent stands for
TRACE = "RAYEDIT_TEST_TRACE"  # environment: the file in which editors note what they edit


def note(*lines: str) -> None:
    """Append to the file that `TRACE` names, whole lines even from several processes."""
    if TRACE in os.environ:
        file = os.open(os.environ[TRACE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, "".join(f"{line}\n" for line in lines).encode())
        os.close(file)


class DryEditor(Editor):
    """Answers with plain pictures, as grey as their noise says. Commits the faults of
    `tests.faults`, and notes its process for each row."""

    example = Schedule(4)
    ragged: frozenset[str] = frozenset()

    def __init__(self, spec: ModelSpec, scheduler_config: dict[str, Any]) -> None:
        self.spec = spec
        self.device = torch.device("cpu")
        self.scheduler_config = scheduler_config

    @classmethod
    def load(cls, folder: Path, spec: ModelSpec, *_: object) -> Self:
        return cls(spec, read_json(folder / "scheduler" / "scheduler_config.json"))

    def schedule(self, request: EditRequest) -> Schedule:
        return Schedule(request.options.num_inference_steps)

    def check(self, request: EditRequest) -> Sequence[str]:
        return []

    def encode(self, requests: Sequence[EditRequest]) -> list[Conditioning]:
        commit_fault(requests)
        note(*[str(os.getpid())] * len(requests))
        return [_conditioning(request) for request in requests]

    def predict(self, latents: torch.Tensor, *_: object) -> torch.Tensor:
        return torch.zeros_like(latents)

    def decode(self, latents: torch.Tensor, *, float32: bool = False) -> list[np.ndarray]:
        greys = latents.flatten(1)[:, 0].mul(1000).abs().remainder(256).tolist()
        height, width = (side * SIDE_PX for side in latents.shape[2:])
        return [np.full((height, width, 3), int(grey), np.uint8) for grey in greys]


def _conditioning(request: EditRequest) -> Conditioning:
    """Nothing: the source is black, and a mask lets everything change."""
    sides = tuple(side // SIDE_PX for side in request.pixels.shape[:2])
    nothing, all_of_it = torch.zeros((1, *sides)), torch.ones((1, *sides))
    mask = None if request.mask is None else all_of_it
    row = {"image": torch.zeros(1)}
    return Conditioning([row], [1.0], (1, *sides), source=nothing, mask=mask)


def dry(spec: ModelSpec) -> ModelSpec:
    """The same model, as far as a job looks, without its weights' work."""
    return replace(plain(spec), editor="tests.batch_jobs.editors:DryEditor")


def plain(spec: ModelSpec) -> ModelSpec:
    """The model with its own small picture as the result, which is encoded in no time."""
    own = {"detail", "restore_size"}
    return replace(spec, defaults={k: v for k, v in spec.defaults.items() if k not in own})
