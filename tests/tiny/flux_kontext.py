"""FLUX.1-Kontext: CLIP and T5, a transformer with embedded guidance."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from diffusers import FluxTransformer2DModel
from PIL import Image

from tests.tiny import autoencoders, schedulers, text_encoders, tokenizers
from tests.tiny.edits import Edit
from tests.tiny.folder import save
from tests.tiny.weights import GAIN, random_model


def build(folder: Path) -> None:
    """Write the folder. FLUX.1's constants of the VAE are its own."""
    transformer = partial(
        FluxTransformer2DModel,
        patch_size=1,
        in_channels=4 * autoencoders.LATENT_CHANNELS,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=text_encoders.WIDTH,
        pooled_projection_dim=text_encoders.WIDTH,
        axes_dims_rope=[4, 4, 8],
        guidance_embeds=True,
    )
    parts = {
        "scheduler": schedulers.flow(),
        "text_encoder": text_encoders.clip(),
        "text_encoder_2": text_encoders.t5(),
        "tokenizer": tokenizers.clip(),
        "tokenizer_2": tokenizers.t5(),
        "transformer": random_model(transformer, gain=GAIN),
        "vae": autoencoders.kl(
            scaling_factor=0.3611,
            shift_factor=0.1159,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        "image_encoder": None,
        "feature_extractor": None,
    }
    save(folder, "FluxKontextPipeline", parts)


def arguments(edit: Edit) -> dict[str, Any]:
    """Of the pipeline's call, beside those that all take: it would make 1024 x 1024 px of any."""
    size = {**edit.canvas, "max_area": edit.canvas["height"] * edit.canvas["width"]}
    mask = {} if edit.mask is None else {"mask_image": Image.fromarray(edit.mask)}
    return {"image": edit.images[0], "_auto_resize": False, **size, **mask}
