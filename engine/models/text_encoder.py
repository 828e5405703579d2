"""A text encoder: on the device, on the CPU, or on the device a layer at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from engine.models import Placement
from engine.models.onednn import multiply_by_onednn

HOST = torch.device("cpu")


class TextEncoder:
    """A model that reads texts where its placement says.

    Is called as the model is, with tensors from anywhere; what it returns is on the device of the
    placement.
    """

    def __init__(self, model: nn.Module, placement: Placement) -> None:
        """`model`: on the CPU."""
        self.model: Any = model
        self._device = placement.device
        self._computes_on = HOST if placement.text_encoder == "cpu" else placement.device
        self._rest: _Visitor | None = None
        if self._computes_on.type == "cpu":
            multiply_by_onednn(model)
        if placement.text_encoder == "device":
            model.to(placement.device)
        elif placement.text_encoder == "swap":
            self._rest = self._make_layers_visit()

    @property
    def config(self) -> Any:
        """Return the model's own configuration."""
        return self.model.config

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Call the model, a `ModelOutput` as it makes one."""
        inputs = tuple(_moved(given, self._computes_on) for given in inputs)
        named = {name: _moved(given, self._computes_on) for name, given in named.items()}
        if self._rest is None:
            outputs = self.model(*inputs, **named)
        else:
            try:
                self._rest.come()
                outputs = self.model(*inputs, **named)
            finally:
                self._rest.go()
        for name, value in outputs.items():
            outputs[name] = _moved(value, self._device)
        return outputs

    def _make_layers_visit(self) -> _Visitor:
        """Have each layer come for its own turn alone; return what must be there for all of them:
        embeddings, norms."""
        layers = list(_layers(self.model))
        for layer in layers:
            visitor = _Visitor(layer.modules(), self._device)
            layer.register_forward_pre_hook(visitor.come)
            layer.register_forward_hook(visitor.go, always_call=True)
        inside = {module for layer in layers for module in layer.modules()}
        return _Visitor((m for m in self.model.modules() if m not in inside), self._device)


class _Visitor:
    """Weights that live on the CPU, and of which the device has a copy from `come` to `go`."""

    def __init__(self, modules: Iterable[nn.Module], device: torch.device) -> None:
        self._device = device
        found: dict[int, torch.Tensor] = {}  # a weight that two modules share comes once
        for module in modules:
            own = (*module.parameters(recurse=False), *module.buffers(recurse=False))
            found |= {id(weight): weight for weight in own}
        self._homes = [(weight, weight.data) for weight in found.values()]

    def come(self, *_: Any) -> None:
        for weight, home in self._homes:
            weight.data = home.to(self._device, copy=True)

    def go(self, *_: Any) -> None:
        for weight, home in self._homes:
            weight.data = home


def _layers(model: nn.Module) -> Iterable[nn.Module]:
    """Find the modules in the outermost lists of a model."""
    for child in model.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _layers(child)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(_moved(one, device) for one in value)
    return value
