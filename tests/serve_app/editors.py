"""An editor for the server's tests that waits instead of computing, and fails where it is told to.

It imports no model: a replica is there sooner, and two cores are free for what is tested.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from engine.edit import EditRequest
from engine.errors import NonFinite
from engine.models import Conditioning
from engine.spec import ModelSpec
from tests.batch_jobs.editors import DryEditor

STEP_S = 0.02  # of a denoising step: 100 of four images take 8 s


class PacedEditor(DryEditor):
    """Takes `STEP_S` for a model call. Commits the faults of `tests.faults`, and one more: "nan in
    encode"."""

    def encode(self, requests: Sequence[EditRequest]) -> list[Conditioning]:
        if "nan in encode" in {request.instruction for request in requests}:
            raise NonFinite("the decoded image holds NaN or infinity")
        return super().encode(requests)

    def predict(self, latents: torch.Tensor, *inputs: object) -> torch.Tensor:
        time.sleep(STEP_S)
        return super().predict(latents, *inputs)


PACED = f"{__name__}:{PacedEditor.__name__}"


def paced(spec: ModelSpec) -> ModelSpec:
    return replace(spec, editor=PACED)
