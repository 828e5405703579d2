"""InstructPix2Pix at its true size with random weights: speed does not depend on what they are.

Sizes: the configurations of runwayml/stable-diffusion-v1-5 (text encoder CLIP-L, VAE) and of
timbrooks/instruct-pix2pix (UNet with 8 input channels, 860 M parameters).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from engine.catalogue import MODELS
from engine.models import Placement
from engine.models.clip_text import ClipText
from engine.models.instruct_pix2pix import InstructPix2Pix
from engine.models.text_encoder import TextEncoder
from engine.spec import ModelSpec

SCHEDULER = {
    "_class_name": "EulerAncestralDiscreteScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "steps_offset": 1,
    "timestep_spacing": "linspace",
}


class RandomInstructPix2Pix(InstructPix2Pix):
    """The architecture alone; `folder` lends its tokenizer."""

    @classmethod
    def load(cls, folder: Path, spec: ModelSpec, placement: Placement) -> Self:
        parts = random_parts(folder, placement.device, placement.dtype)
        encoder = TextEncoder(parts.pop("text_encoder"), placement)
        text = ClipText(parts.pop("tokenizer"), encoder, placement.dtype)
        return cls(spec, text, **parts, scheduler_config=SCHEDULER)


# `source` is there for its tokenizer.
RANDOM_SD15 = replace(
    MODELS["instruct-pix2pix"],
    name="random-sd15",
    source=MODELS["pocket"].source,
    editor="benchmarks.random_sd15:RandomInstructPix2Pix",
)


def random_parts(folder: Path, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """tokenizer, text_encoder, vae, unet: the same seeded weights each time."""
    torch.manual_seed(0)
    with torch.device(device):
        unet = UNet2DConditionModel(
            sample_size=64, in_channels=8, cross_attention_dim=768, attention_head_dim=8
        )
        vae = AutoencoderKL(
            sample_size=512,
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        )
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=49408,
                hidden_size=768,
                intermediate_size=3072,
                num_attention_heads=12,
                num_hidden_layers=12,
            )
        )
    modules = {"text_encoder": text_encoder, "vae": vae, "unet": unet}
    ready = {
        name: module.to(dtype).eval().requires_grad_(False) for name, module in modules.items()
    }
    return {"tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer"), **ready}
