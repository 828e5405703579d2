"""On a CPU an upsampling layer computes at the small size what diffusers' computes at the large."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from diffusers.models.upsampling import Upsample2D

from engine.config import EngineConfig
from engine.loading import load_model
from engine.models.upsampling import upsample_at_small_size
from engine.registry import find_model

OTHERS: dict[str, Callable[[], Upsample2D]] = {
    "without convolution": lambda: Upsample2D(8),
    "transposed": lambda: Upsample2D(8, use_conv_transpose=True),
    "of another name": lambda: Upsample2D(8, use_conv=True, name="Conv2d_0"),
    "normalised": lambda: Upsample2D(8, use_conv=True, norm_type="rms_norm", eps=1e-6),
    "of five": lambda: Upsample2D(8, use_conv=True, kernel_size=5, padding=2),
    "not enlarged": lambda: Upsample2D(8, use_conv=True, interpolate=False),
    "half precision": lambda: Upsample2D(8, use_conv=True).bfloat16(),
}


def both_ways(order: torch.memory_format) -> tuple[Upsample2D, Upsample2D]:
    """A layer as diffusers has it, and the same one computed at the small size."""
    torch.manual_seed(0)
    layer = Upsample2D(8, use_conv=True, out_channels=12).to(memory_format=order).eval()
    ours = deepcopy(layer)
    upsample_at_small_size(ours)
    assert type(ours) is not Upsample2D and list(ours.state_dict()) == list(layer.state_dict())
    return layer, ours


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@torch.inference_mode()
def test_every_pixel_is_the_same_but_for_the_last_bits(order: torch.memory_format) -> None:
    layer, ours = both_ways(order)
    for height, width in ((1, 1), (5, 8), (16, 3)):
        given = torch.randn(3, 8, height, width).to(memory_format=order)
        torch.testing.assert_close(ours(given), layer(given), rtol=1e-5, atol=1e-6)


@torch.inference_mode()
def test_another_size_and_a_lora_get_the_whole_layer() -> None:
    layer, ours = both_ways(torch.channels_last)
    given = torch.randn(2, 8, 5, 7)
    assert torch.equal(ours(given, output_size=(9, 14)), layer(given, output_size=(9, 14)))
    for one in (layer, ours):
        one.conv.register_forward_hook(lambda _, inputs, output: output + inputs[0].mean())
    assert torch.equal(ours(given), layer(given))


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_plain_upsampling_is_left_as_it_is(kind: str) -> None:
    layer = OTHERS[kind]()
    upsample_at_small_size(layer)
    assert type(layer) is Upsample2D


def test_a_loaded_models_upsampling_is_done_at_the_small_size() -> None:
    editor = load_model(find_model("pocket"), EngineConfig()).editor
    layers = [m for m in editor.denoiser.modules() if isinstance(m, Upsample2D)]
    assert layers and Upsample2D not in map(type, layers)
