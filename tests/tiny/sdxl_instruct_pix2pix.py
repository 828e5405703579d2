"""InstructPix2Pix on SDXL: two CLIPs, sizes as a condition, Euler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.tiny import autoencoders, schedulers, text_encoders, tokenizers
from tests.tiny.edits import Edit
from tests.tiny.folder import save
from tests.tiny.unets import unet


def build(folder: Path) -> None:
    """Write the folder; no negative prompt means zeros (`force_zeros_for_empty_prompt`)."""
    time_width = 8
    parts = {
        "vae": autoencoders.kl(scaling_factor=0.13025, force_upcast=True),
        "text_encoder": text_encoders.clip(),
        "text_encoder_2": text_encoders.clip(projection=True, seed=1),
        "tokenizer": tokenizers.clip(),
        "tokenizer_2": tokenizers.clip(),
        "unet": unet(
            in_channels=2 * autoencoders.LATENT_CHANNELS,
            cross_attention_dim=2 * text_encoders.WIDTH,
            attention_head_dim=[2, 4],
            transformer_layers_per_block=[1, 2],
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=time_width,
            projection_class_embeddings_input_dim=6 * time_width + text_encoders.WIDTH,
        ),
        "scheduler": schedulers.euler(),
    }
    save(
        folder,
        "StableDiffusionXLInstructPix2PixPipeline",
        parts,
        force_zeros_for_empty_prompt=True,
        is_cosxl_edit=False,
    )


def arguments(edit: Edit) -> dict[str, Any]:
    """Of the pipeline's call, beside those that all take."""
    return {"image": edit.images[0], **edit.canvas}
