"""An editor for the server's tests that waits instead of computing, and fails where it is told to.

It imports no model: a replica is there sooner, and two cores are free for what is tested.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from engine.edit import EditRequest
from engine.errors import NonFinite
from engine.models import Conditioning
from engine.registry import ModelSpec
from tests.batch_jobs.editors import DryEditor

STEP_S = 0.02  # of a denoising step: 100 of four images take 8 s


class PacedEditor(DryEditor):
    """Takes `STEP_S` for a model call, and paints as grey as the noise. The instruction may name a
    fault: "fail in encode", "nan in encode", "exit in encode", "hang in encode", "end the thread in
    encode"."""

    def encode(self, requests: Sequence[EditRequest]) -> list[Conditioning]:
        texts = {request.instruction for request in requests}
        if "exit in encode" in texts:
            os._exit(17)
        if "hang in encode" in texts:
            time.sleep(3600)
        if "end the thread in encode" in texts:
            raise SystemExit
        if "fail in encode" in texts:
            raise RuntimeError("injected fault")
        if "nan in encode" in texts:
            raise NonFinite("injected fault")
        return super().encode(requests)

    def predict(self, latents: torch.Tensor, *inputs: object) -> torch.Tensor:
        time.sleep(STEP_S)
        return super().predict(latents, *inputs)

    def decode(self, latents: torch.Tensor, *, float32: bool = False) -> list[np.ndarray]:
        greys = latents.flatten(1)[:, 0].mul(1000).abs().remainder(256).tolist()
        return [np.full(self._shape, int(grey), np.uint8) for grey in greys]


PACED = f"{__name__}:{PacedEditor.__name__}"


def paced(spec: ModelSpec) -> ModelSpec:
    return replace(spec, editor=PACED)
