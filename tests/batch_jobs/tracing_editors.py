"""The embedded model, that notes what it edits and with what."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch

from engine.edit import EditRequest
from engine.models import Conditioning
from tests.batch_jobs.editors import note
from tests.editors import FaultyEditor


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
