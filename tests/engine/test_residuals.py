"""Residual blocks that write in place give diffusers' bits, and leave alone what they are given."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D

from engine.config import EngineConfig
from engine.loading import load_model
from engine.models.residuals import add_in_place
from engine.registry import find_model

PLAIN = {"in_channels": 32, "temb_channels": 24}
OTHERS: dict[str, dict[str, Any]] = {
    "enlarging": {"up": True},
    "shrinking": {"down": True},
    "scaled by time": {"time_embedding_norm": "scale_shift"},
    "of active times": {"skip_time_act": True},
    "divided": {"output_scale_factor": 2.0},
    "of another activation": {"non_linearity": "gelu"},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("options", [{}, {"out_channels": 64}, {"temb_channels": None}])
@torch.inference_mode()
def test_every_bit_is_diffusers(
    options: dict[str, Any], order: torch.memory_format, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    block = ResnetBlock2D(**PLAIN | options).to(dtype=dtype, memory_format=order).eval()
    ours = deepcopy(block)
    add_in_place(ours)
    assert type(ours) is not ResnetBlock2D and list(ours.state_dict()) == list(block.state_dict())
    given = torch.randn(3, 32, 9, 7, dtype=dtype).to(memory_format=order)
    time = None if block.time_emb_proj is None else torch.randn(3, 24, dtype=dtype)
    before = deepcopy((given, time))
    assert torch.equal(ours(given, time), block(given, time))
    for layer in (block.conv2, ours.conv2):  # as a LoRA listens
        layer.register_forward_hook(lambda _, inputs, output: output + inputs[0].mean())
    assert torch.equal(ours(given, time), block(given, time))
    assert torch.equal(given, before[0])
    assert time is None or torch.equal(time, before[1])


@pytest.mark.parametrize("kind", OTHERS)
def test_another_block_is_left_as_it_is(kind: str) -> None:
    block = ResnetBlock2D(**PLAIN | OTHERS[kind])
    add_in_place(block)
    assert type(block) is ResnetBlock2D


def test_a_loaded_models_blocks_write_in_place() -> None:
    editor = load_model(find_model("pocket"), EngineConfig()).editor
    blocks = [m for m in editor.denoiser.modules() if isinstance(m, ResnetBlock2D)]
    assert blocks and ResnetBlock2D not in map(type, blocks)
