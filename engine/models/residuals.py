"""diffusers' residual blocks without what they compute for nothing: the bits are the same.

They divide every sum by a factor, which is one in all models but few, and write each activation and
each sum to memory of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from torch.nn.functional import silu


def add_in_place(part: nn.Module) -> None:
    """Let the residual blocks of a loaded `part` write over what nobody reads any more.

    The blocks, their layers and weights stay what they are, for hooks and LoRAs.
    """
    for block in part.modules():
        if type(block) is ResnetBlock2D and _fits(block):
            block.__class__ = _Residual


def _fits(block: ResnetBlock2D) -> bool:
    keeps_size = block.upsample is None and block.downsample is None
    adds_time = block.time_embedding_norm == "default" and not block.skip_time_act
    is_plain = block.output_scale_factor == 1 and type(block.nonlinearity) is nn.SiLU
    return keeps_size and adds_time and is_plain


class _Residual(ResnetBlock2D):
    def forward(
        self, input_tensor: torch.Tensor, temb: torch.Tensor | None, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        made = self.conv1(silu(self.norm1(input_tensor), inplace=True))
        if temb is not None:  # of several blocks: it stays
            made += self.time_emb_proj(silu(temb))[:, :, None, None]
        made = self.conv2(silu(self.norm2(made), inplace=True))
        shortcut = input_tensor if self.conv_shortcut is None else self.conv_shortcut(input_tensor)
        return made.add_(shortcut)
