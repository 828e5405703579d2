"""SD 1.5 under the edges of the source: a ControlNet beside a text-to-image UNet."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import ControlNetModel
from PIL import Image

from tests.tiny import autoencoders, schedulers, text_encoders, tokenizers
from tests.tiny.edits import Edit
from tests.tiny.folder import save
from tests.tiny.unets import BLOCKS, unet
from tests.tiny.weights import GAIN, random_model


def build(folder: Path) -> None:
    """Write the folder; its `controlnet` can stand alone, too."""
    text = {"cross_attention_dim": text_encoders.WIDTH, "attention_head_dim": 8}
    channels = {"in_channels": autoencoders.LATENT_CHANNELS}
    edges = {"conditioning_embedding_out_channels": [16, 16, 32, 32]}
    controlnet = random_model(
        partial(ControlNetModel, **BLOCKS, **text, **channels, **edges), gain=GAIN
    )
    parts = {
        "vae": autoencoders.kl(scaling_factor=0.18215),
        "text_encoder": text_encoders.clip(),
        "tokenizer": tokenizers.clip(),
        "unet": unet(**text, **channels),
        "controlnet": controlnet,
        "scheduler": schedulers.pndm(),
        "safety_checker": None,
        "feature_extractor": None,
        "image_encoder": None,
    }
    settings = {"requires_safety_checker": False}
    save(folder, "StableDiffusionControlNetPipeline", parts, **settings)


def arguments(edit: Edit) -> dict[str, Any]:
    """Of the pipeline's call, beside those that all take: the source's edges."""
    return {"image": Image.fromarray(edges(edit.sources[0])), **edit.canvas}


def edges(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: white where brightness changes by more than 16 levels from px to px."""
    grey = pixels.mean(axis=2)
    change = np.abs(np.gradient(grey)).max(axis=0)
    return np.repeat(np.where(change > 16, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
