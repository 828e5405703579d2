"""Products of matrices by oneDNN, on a CPU: torch gives those of float32 to MKL.

MKL keeps AMD's processors from AVX-512: 100 GFLOP/s of a core that does 240 (docs/decisions.md). On
Intel's the two are alike.
"""

from __future__ import annotations

import torch
from torch import nn


def multiply_by_onednn(part: nn.Module) -> None:
    """Let the linear layers and 1x1 convolutions of a loaded `part` be computed by oneDNN.

    Those in float32 on a CPU, where torch has oneDNN. They stay the layers that they are, with the
    same weights, for hooks and LoRAs; what they compute differs in the last bits.
    """
    if not torch.backends.mkldnn.is_available():
        return
    for layer in part.modules():
        if type(layer) is nn.Linear and is_plain(layer.weight):
            layer.__class__ = _Linear
        elif type(layer) is nn.Conv2d and is_plain(layer.weight) and _is_pointwise(layer):
            layer.__class__ = _Pointwise


def is_plain(weight: torch.Tensor) -> bool:
    """Tell whether a CPU computes with these weights as they are: float32, and not quantised."""
    is_float = weight.device.type == "cpu" and weight.dtype == torch.float32
    return is_float and type(weight.data) is torch.Tensor


def _is_pointwise(layer: nn.Conv2d) -> bool:
    plain = layer.stride == (1, 1) and layer.padding == (0, 0) and layer.groups == 1
    return plain and layer.kernel_size == (1, 1)


def _product(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")


class _Linear(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return _product(input, self.weight, self.bias)


class _Pointwise(nn.Conv2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        pixels = input.permute(0, 2, 3, 1)  # as they lie in memory, where channels are last
        return _product(pixels, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)
