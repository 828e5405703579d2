"""InstructPix2Pix on SD 1.5: 4 latent channels, epsilon prediction, PNDM."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from diffusers import UNet2DConditionModel

from tests.tiny import autoencoders, schedulers, text_encoders, tokenizers
from tests.tiny.edits import Edit
from tests.tiny.folder import save
from tests.tiny.weights import GAIN, random_model


def build(folder: Path) -> None:
    """Write the folder; its UNet halves three times, so sides are multiples of 64 px."""
    unet = partial(
        UNet2DConditionModel,
        sample_size=8,
        in_channels=2 * autoencoders.LATENT_CHANNELS,
        out_channels=autoencoders.LATENT_CHANNELS,
        block_out_channels=(16, 32, 32, 32),
        layers_per_block=1,
        cross_attention_dim=text_encoders.WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    parts = {
        "vae": autoencoders.kl(scaling_factor=0.18215),
        "text_encoder": text_encoders.clip(),
        "tokenizer": tokenizers.clip(),
        "unet": random_model(unet, gain=GAIN),
        "scheduler": schedulers.pndm(),
        "safety_checker": None,
        "feature_extractor": None,
        "image_encoder": None,
    }
    settings = {"requires_safety_checker": False}
    save(folder, "StableDiffusionInstructPix2PixPipeline", parts, **settings)


def arguments(edit: Edit) -> dict[str, Any]:
    """Of the pipeline's call, beside those that all take."""
    return {"image": edit.images[0]}
