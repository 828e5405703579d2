"""Autoencoders of factor 8, as all families have them."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    AutoencoderTiny,
)

from tests.tiny.weights import random_model

LATENT_CHANNELS = 4
LEVELS = 4  # of resolution: three times halved


def kl(**settings: Any) -> Any:
    """Stable Diffusion's and FLUX.1's; their constants (`scaling_factor`, ...) are settings."""
    return random_model(partial(AutoencoderKL, **_blocks(), **settings))


def flux2() -> Any:
    """FLUX.2's, with statistics of the latents in a batch norm."""
    settings = {"use_quant_conv": False, "use_post_quant_conv": False}
    vae = random_model(partial(AutoencoderKLFlux2, **_blocks(), **settings))
    draw = torch.Generator().manual_seed(1)
    vae.bn.running_mean.normal_(0, 0.1, generator=draw)
    vae.bn.running_var.uniform_(0.5, 1.5, generator=draw)
    return vae


def qwen() -> Any:
    """Qwen-Image's, which takes a picture as a film of one frame."""
    settings = {
        "base_dim": 8,
        "z_dim": LATENT_CHANNELS,
        "dim_mult": [1] * LEVELS,
        "num_res_blocks": 1,
        "temperal_downsample": [False, True, True],
        "latents_mean": [0.1, -0.2, 0.05, 0.3],
        "latents_std": [1.5, 1.2, 0.8, 2.0],
    }
    return random_model(partial(AutoencoderKLQwenImage, **settings))


def tiny() -> Any:
    """DreamLite's: no posterior, one map from image to latents."""
    settings = {
        "encoder_block_out_channels": [8] * LEVELS,
        "decoder_block_out_channels": [8] * LEVELS,
        "num_encoder_blocks": [1] * LEVELS,
        "num_decoder_blocks": [1] * LEVELS,
        "latent_channels": LATENT_CHANNELS,
    }
    return random_model(partial(AutoencoderTiny, **settings))


def _blocks() -> dict[str, Any]:
    return {
        "block_out_channels": [8] * LEVELS,
        "down_block_types": ["DownEncoderBlock2D"] * LEVELS,
        "up_block_types": ["UpDecoderBlock2D"] * LEVELS,
        "layers_per_block": 1,
        "latent_channels": LATENT_CHANNELS,
        "norm_num_groups": 2,
    }
