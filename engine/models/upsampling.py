"""An enlargement by two and the 3x3 convolution behind it, computed at the small size.

Nearest neighbours are twice the same, so that of the three rows under the kernel two are one. Each
of the four places of a small pixel has a 2x2 kernel of its own then: 4 products in place of 9.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.upsampling import Upsample2D
from torch import nn
from torch.nn.functional import conv2d

from engine.models.onednn import is_plain


def upsample_at_small_size(part: nn.Module) -> None:
    """Let the upsampling layers of a loaded `part`, as diffusers has them, compute less.

    Those in float32 on a CPU. The layers and their weights stay what they are; the sums of weights
    are kept beside them, 16 numbers for 9. What is computed differs in the last bits.
    """
    for layer in part.modules():
        if type(layer) is Upsample2D and _fits(layer):
            for place, kernel in enumerate(_kernels(layer.conv.weight)):
                layer.register_buffer(f"kernel_{place}", kernel, persistent=False)
            layer.__class__ = _SmallUpsample


def _fits(layer: Any) -> bool:
    conv = getattr(layer, "conv", None)
    if conv is None or type(conv) is not nn.Conv2d:
        return False
    if layer.norm is not None or not layer.interpolate:
        return False
    return is_plain(conv.weight) and conv.kernel_size == (3, 3) and conv.padding == (1, 1)


def _kernels(weight: torch.Tensor) -> list[torch.Tensor]:
    """(O, I, 3, 3) -> four of (O, I, 2, 2), as they lie in memory: for the upper left place, the
    upper right, the lower left, the lower right."""
    rows = [_folded(weight, 2, place) for place in (0, 1)]
    kernels = [_folded(row, 3, place) for row in rows for place in (0, 1)]
    last = weight.is_contiguous(memory_format=torch.channels_last)
    order = torch.channels_last if last else torch.contiguous_format
    return [kernel.contiguous(memory_format=order) for kernel in kernels]


def _folded(weight: torch.Tensor, axis: int, place: int) -> torch.Tensor:
    """Add the two of three weights that meet the same small pixel."""
    first, second, third = weight.unbind(axis)
    both = (first, second + third) if place == 0 else (first + second, third)
    return torch.stack(both, axis)


class _SmallUpsample(Upsample2D):
    def forward(
        self, hidden_states: torch.Tensor, output_size: Any = None, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        if output_size is not None or self.conv._forward_hooks:  # a LoRA listens to `conv`
            return super().forward(hidden_states, output_size, *args, **kwargs)
        count, _, height, width = hidden_states.shape
        size = count, self.out_channels, 2 * height, 2 * width
        enlarged = torch.empty(size, memory_format=torch.channels_last)
        for place in range(4):
            row, column = divmod(place, 2)
            kernel = self.get_buffer(f"kernel_{place}")
            made = conv2d(hidden_states, kernel, self.conv.bias, padding=1)
            enlarged[..., row::2, column::2] = made[
                ..., row : row + height, column : column + width
            ]
        return enlarged
