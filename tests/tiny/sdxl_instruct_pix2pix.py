"""InstructPix2Pix on SDXL: two CLIPs, sizes as a condition, Euler; and CosXL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.tiny import autoencoders, schedulers, text_encoders, tokenizers
from tests.tiny.edits import Edit
from tests.tiny.folder import save
from tests.tiny.unets import unet


def build(folder: Path) -> None:
    """Write the folder; no negative prompt means zeros (`force_zeros_for_empty_prompt`)."""
    _save(folder, _parts(), force_zeros_for_empty_prompt=True, is_cosxl_edit=False)


def build_cosxl(folder: Path) -> None:
    """Write CosXL's edit model, which is shown the source scaled; no negative prompt is an empty
    one, and the VAE has statistics of its latents."""
    statistics = {"latents_mean": [0.5, -0.25, 0.1, 0.0], "latents_std": [2.0, 1.5, 3.0, 2.5]}
    parts = {**_parts(**statistics), "scheduler": schedulers.edm()}
    _save(folder, parts, force_zeros_for_empty_prompt=False, is_cosxl_edit=True)


def _save(folder: Path, parts: dict[str, Any], **settings: Any) -> None:
    save(folder, "StableDiffusionXLInstructPix2PixPipeline", parts, **settings)


def _parts(**vae: Any) -> dict[str, Any]:
    time_width = 8
    return {
        "vae": autoencoders.kl(scaling_factor=0.13025, force_upcast=True, **vae),
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


def arguments(edit: Edit) -> dict[str, Any]:
    """Of the pipeline's call, beside those that all take."""
    return {"image": edit.images[0], **edit.canvas}
