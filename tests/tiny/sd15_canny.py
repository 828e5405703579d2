"""SD 1.5 under the edges of the source: a ControlNet beside a text-to-image UNet."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from diffusers import ControlNetModel, StableDiffusionControlNetImg2ImgPipeline
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


def pipeline_of(loaded: Any, edit: Edit) -> Any:
    """diffusers' pipeline for this edit, over the parts of the folder's."""
    if "strength" not in edit.options or type(loaded).__name__.endswith("InpaintPipeline"):
        return loaded
    of_source = StableDiffusionControlNetImg2ImgPipeline(
        **loaded.components, requires_safety_checker=False
    )
    of_source.set_progress_bar_config(disable=True)
    return of_source


def arguments(edit: Edit) -> dict[str, Any]:
    """Of the pipeline's call, beside those that all take: source, mask and control image."""
    control = Image.fromarray(control_of(edit))
    if "strength" not in edit.options:
        return {"image": control, **edit.canvas}
    mask = {} if edit.mask is None else {"mask_image": Image.fromarray(edit.mask)}
    return {"image": edit.images[0], "control_image": control, **mask, **edit.canvas}


def control_of(edit: Edit) -> np.ndarray:
    """The second source, else the edges of the first one as the model card finds them."""
    if len(edit.sources) > 1:
        return edit.sources[1]
    return np.repeat(cv2.Canny(edit.sources[0], 100, 200)[..., None], 3, axis=2)
