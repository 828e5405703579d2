"""Editors for the job's tests: one that notes what it edits, one that answers at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from engine.edit import EditRequest
from engine.models import Conditioning, Editor
from engine.registry import ModelSpec, read_json
from engine.sampling import Schedule
from tests.batch_jobs.chaos import TRACE
from tests.editors import FaultyEditor


def note(*lines: str) -> None:
    """Append to the file that `TRACE` names, whole lines even from several processes."""
    if TRACE in os.environ:
        file = os.open(os.environ[TRACE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, "".join(f"{line}\n" for line in lines).encode())
        os.close(file)


class TracingEditor(FaultyEditor):
    """Notes the id of every row that it begins."""

    def encode(self, requests: Sequence[EditRequest]) -> list[Conditioning]:
        note(*(request.id for request in requests))
        return super().encode(requests)


class CountedThreads(FaultyEditor):
    """Notes its process and the threads that it computes with."""

    def predict(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        note(f"{os.getpid()} {torch.get_num_threads()}")
        return super().predict(*args, **kwargs)


class DryEditor(Editor):
    """Answers at once with grey pictures: what is left is the job's own work. Notes its process
    for every row."""

    example = Schedule(4)
    ragged: frozenset[str] = frozenset()

    def __init__(self, spec: ModelSpec, scheduler_config: dict[str, Any]) -> None:
        self.spec = spec
        self.device = torch.device("cpu")
        self.scheduler_config = scheduler_config
        self._shape = (0, 0, 3)

    @classmethod
    def load(cls, folder: Path, spec: ModelSpec, *_: object) -> Self:
        return cls(spec, read_json(folder / "scheduler" / "scheduler_config.json"))

    def schedule(self, request: EditRequest) -> Schedule:
        return Schedule(request.options.num_inference_steps)

    def check(self, request: EditRequest) -> Sequence[str]:
        return []

    def encode(self, requests: Sequence[EditRequest]) -> list[Conditioning]:
        self._shape = requests[0].pixels.shape
        note(*[str(os.getpid())] * len(requests))
        return [Conditioning([{"image": torch.zeros(1)}], [1.0], (1, 1, 1)) for _ in requests]

    def predict(self, latents: torch.Tensor, *_: object) -> torch.Tensor:
        return torch.zeros_like(latents)

    def decode(self, latents: torch.Tensor, *, float32: bool = False) -> list[np.ndarray]:
        return [np.full(self._shape, 128, np.uint8) for _ in latents]
