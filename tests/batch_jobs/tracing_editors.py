"""The embedded model, that notes what it edits and with what."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from engine.config import cores
from engine.edit import EditRequest
from engine.models import Conditioning
from tests.batch_jobs.editors import TRACE, note
from tests.editors import FaultyEditor
from tests.serving import eventually


class TracingEditor(FaultyEditor):
    """Notes the id of every row that it begins."""

    def encode(self, requests: Sequence[EditRequest]) -> list[Conditioning]:
        note(*(request.id for request in requests))
        return super().encode(requests)


class CountedThreads(FaultyEditor):
    """Notes its process and the threads that it computes with, and waits for the other workers, of
    which one could else do the work of all while they load."""

    def predict(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        note(f"{os.getpid()} {torch.get_num_threads()}")
        eventually(lambda: _processes() >= cores(), 120)
        return super().predict(*args, **kwargs)


def _processes() -> int:
    return len({line.split()[0] for line in Path(os.environ[TRACE]).read_text().splitlines()})
