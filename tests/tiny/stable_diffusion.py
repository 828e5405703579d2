"""Stable Diffusion 1.5, which paints from a text alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.tiny import autoencoders, schedulers, text_encoders, tokenizers
from tests.tiny.folder import save
from tests.tiny.unets import unet

# On queries and keys: torch's initialisation makes every place look nearly evenly at all others,
# and so nearly the same picture with the attention of another one.
ATTENTIVE = 4.0


def build(folder: Path) -> Path:
    """Write the folder, at 64 px, and return it."""
    text = {"cross_attention_dim": text_encoders.WIDTH, "attention_head_dim": 8}
    channels = {"in_channels": autoencoders.LATENT_CHANNELS}
    parts = {
        "vae": autoencoders.kl(scaling_factor=0.18215),
        "text_encoder": text_encoders.clip(),
        "tokenizer": tokenizers.clip(),
        "unet": _attentive(unet(**text, **channels)),
        "scheduler": schedulers.pndm(),
        "safety_checker": None,
        "feature_extractor": None,
        "image_encoder": None,
    }
    save(folder, "StableDiffusionPipeline", parts, requires_safety_checker=False)
    return folder


def _attentive(unet: Any) -> Any:
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if name.endswith(("to_q.weight", "to_k.weight")):
                weight.mul_(ATTENTIVE)
    return unet
