"""How much arithmetic an edit is, and how much of it a device can do."""

from __future__ import annotations

import statistics
import time

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from engine import EditRequest
from engine.guidance import branches
from engine.models import Editor


class Flops:
    """Floating-point operations (2 for each multiply-add) of edits at one size, counted by torch
    in the real model: encode, one branch row, decode."""

    def __init__(self, editor: Editor, request: EditRequest) -> None:
        with torch.no_grad():
            encode, row, decode = (_counter() for _ in range(3))
            with encode:
                (conditioning,) = editor.encode([request])
            inputs = {n: t[None] for n, t in conditioning.rows[0].items()}
            latents = torch.zeros((1, *conditioning.latent_shape), device=editor.device)
            with row:
                times = torch.ones(1, device=editor.device)
                editor.predict(latents, times, inputs, conditioning.layout)
            with decode:
                editor.decode(latents)
        self._guidance = editor.spec.guidance
        self._once = encode.get_total_flops() + decode.get_total_flops()
        self._row = row.get_total_flops()

    def of(self, requests: list[EditRequest]) -> float:
        """All of `requests`, computing no row that guidance does not need."""
        rows = 0
        for request in requests:
            options = request.options
            rows += len(branches(self._guidance, options)) * options.num_inference_steps
        return float(rows * self._row + len(requests) * self._once)


def _counter() -> FlopCounterMode:
    """Counts attention on a CPU too, which torch's own table leaves out."""
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(
        display=False,
        custom_mapping={attention: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)},
    )


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of large matrix products, measured: what model FLOP utilisation is of."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    seconds = []
    for _ in range(10):
        _wait(device)
        start = time.perf_counter()
        torch.mm(a, b)
        _wait(device)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
