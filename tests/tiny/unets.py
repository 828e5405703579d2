"""UNets of two levels, as the Stable Diffusion families have them."""

from __future__ import annotations

from functools import partial
from typing import Any

from diffusers import UNet2DConditionModel

from tests.tiny import autoencoders
from tests.tiny.weights import GAIN, random_model

# What a UNet shares with a ControlNet beside it.
BLOCKS = {
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 2,
}


def unet(**settings: Any) -> Any:
    """A UNet whose width of text, heads and inputs are settings."""
    make = partial(
        UNet2DConditionModel,
        **BLOCKS,
        up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"],
        out_channels=autoencoders.LATENT_CHANNELS,
        sample_size=8,
        **settings,
    )
    return random_model(make, gain=GAIN)
