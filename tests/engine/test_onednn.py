"""On a CPU, products of matrices are oneDNN's, and layers stay what they are."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import nn

from engine.config import EngineConfig
from engine.loading import load_model
from engine.models.onednn import multiply_by_onednn
from engine.registry import find_model

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(24, 40),
    "linear without bias": lambda: nn.Linear(24, 40, bias=False),
    "pointwise": lambda: nn.Conv2d(24, 40, 1),
    "pointwise without bias": lambda: nn.Conv2d(24, 40, 1, bias=False),
}
OTHERS: dict[str, Callable[[], nn.Module]] = {
    "3x3": lambda: nn.Conv2d(24, 40, 3),
    "strided": lambda: nn.Conv2d(24, 40, 1, stride=2),
    "padded": lambda: nn.Conv2d(24, 40, 1, padding=1),
    "grouped": lambda: nn.Conv2d(24, 40, 1, groups=8),
    "half precision": lambda: nn.Linear(24, 40).bfloat16(),
    "of its own kind": lambda: nn.modules.linear.NonDynamicallyQuantizableLinear(24, 40),
}


def inputs_of(layer: nn.Module) -> list[torch.Tensor]:
    """What a layer may get: rows, pictures in both orders, and a view of part of a larger one."""
    if isinstance(layer, nn.Linear):
        wide = torch.randn(3, 7, 48)
        return [torch.randn(24), torch.randn(5, 24), torch.randn(3, 7, 24), wide[..., :24]]
    plain = torch.randn(3, 24, 6, 5)
    return [plain, plain.to(memory_format=torch.channels_last), torch.randn(3, 48, 6, 5)[:, ::2]]


@pytest.mark.parametrize("kind", LAYERS)
@torch.inference_mode()
def test_what_a_layer_computes_is_the_same_but_for_the_last_bits(kind: str) -> None:
    torch.manual_seed(0)
    layer = LAYERS[kind]()
    ours = deepcopy(layer)
    multiply_by_onednn(ours)
    assert type(ours) is not type(layer) and isinstance(ours, type(layer))
    assert list(ours.state_dict()) == list(layer.state_dict())
    for given in inputs_of(layer):
        expected, found = layer(given), ours(given)
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_plain_product_is_left_as_it_is(kind: str) -> None:
    layer = OTHERS[kind]()
    multiply_by_onednn(layer)
    assert type(layer) is type(OTHERS[kind]())


def test_a_loaded_models_products_are_onednns() -> None:
    editor = load_model(find_model("pocket"), EngineConfig()).editor
    with torch.profiler.profile() as profile, torch.inference_mode():
        layer = next(m for m in editor.denoiser.modules() if isinstance(m, nn.Linear))
        layer(torch.randn(2, layer.in_features))
    assert "mkldnn::_linear_pointwise" in {event.key for event in profile.key_averages()}
