"""Loading a part of a model holds its weights once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

# In a process of its own: what an earlier test freed would hide a second copy.
MEASURE = """
import sys
from pathlib import Path
import diffusers, torch, transformers
from engine.memory import HostMemory
from engine.models import Placement
from engine.models.parts import load_denoiser
kind = getattr(diffusers, sys.argv[1], None) or getattr(transformers, sys.argv[1])
memory = HostMemory()
memory.start()
placement = Placement(torch.device("cpu"), torch.float32, quantization=sys.argv[3])
part = load_denoiser(kind, Path(sys.argv[2]), placement)
print(memory.peak_bytes(), sum(weight.nbytes for weight in part.parameters()))
"""


def a_transformer() -> Any:
    from diffusers import FluxTransformer2DModel

    return FluxTransformer2DModel(
        num_layers=2, num_single_layers=1, num_attention_heads=10, joint_attention_dim=1024
    )


def a_text_encoder() -> Any:
    from transformers import T5Config, T5EncoderModel

    sizes = {"d_model": 1024, "d_ff": 4096, "num_layers": 4, "vocab_size": 32128}
    return T5EncoderModel(T5Config(**sizes, num_heads=16))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "quantization", "most"),
    [(a_transformer, "none", 1.75), (a_text_encoder, "none", 1.75), (a_transformer, "int8", 1.0)],
)
def test_the_weights_of_a_part_are_in_memory_once_while_it_loads(
    make: Any, quantization: str, most: float, tmp_path: Path
) -> None:
    """They are made float32 from half as many bytes of a mapped file: 1.5 of them, and not 2. Where
    they are quantised each is float32 in its turn alone: 0.9 of them all."""
    if quantization != "none":
        pytest.importorskip("torchao")
    part = make().to(torch.bfloat16)
    part.save_pretrained(tmp_path)
    name = type(part).__name__
    command = [sys.executable, "-c", MEASURE, name, str(tmp_path), quantization]
    # glibc gives back at once what is larger, or its gaps would be counted.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    peak_bytes, weights_bytes = map(int, run.stdout.split()[-2:])
    assert weights_bytes > 200e6
    if peak_bytes == 0:
        pytest.skip("this kernel does not tell the peak")
    assert peak_bytes < most * weights_bytes
