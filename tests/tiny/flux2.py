"""FLUX.2: klein (Qwen3 text; base and distilled) and dev (Mistral text, embedded guidance)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from diffusers import Flux2Transformer2DModel
from PIL import Image

from tests.tiny import autoencoders, schedulers, text_encoders, tokenizers
from tests.tiny.edits import Edit
from tests.tiny.folder import save
from tests.tiny.weights import GAIN, random_model


def build_klein(folder: Path) -> None:
    """Write klein base: guidance of two branches."""
    save(folder, "Flux2KleinPipeline", _klein_parts(), is_distilled=False)


def build_distilled_klein(folder: Path) -> None:
    """Write klein: 4 steps, no guidance."""
    save(folder, "Flux2KleinPipeline", _klein_parts(), is_distilled=True)


def build_dev(folder: Path) -> None:
    """Write dev."""
    text = {"text_encoder": text_encoders.mistral3(), "tokenizer": tokenizers.mistral()}
    save(folder, "Flux2Pipeline", {**text, **_picture_parts(guidance_embeds=True)})


def _klein_parts() -> dict[str, Any]:
    text = {"text_encoder": text_encoders.qwen3(), "tokenizer": tokenizers.qwen()}
    return {**text, **_picture_parts(guidance_embeds=False)}


def _picture_parts(*, guidance_embeds: bool) -> dict[str, Any]:
    transformer = partial(
        Flux2Transformer2DModel,
        patch_size=1,
        in_channels=4 * autoencoders.LATENT_CHANNELS,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * text_encoders.VISION_WIDTH,  # three layers beside each other
        axes_dims_rope=[4, 4, 4, 4],
        guidance_embeds=guidance_embeds,
    )
    return {
        "transformer": random_model(transformer, gain=GAIN),
        "vae": autoencoders.flux2(),
        "scheduler": schedulers.flow(),
    }


def arguments(edit: Edit) -> dict[str, Any]:
    """Of the pipeline's call, beside those that all take. Where it inpaints it takes one source."""
    if edit.mask is not None:
        return {"image": edit.images[0], "mask_image": Image.fromarray(edit.mask)}
    return {"image": edit.images, **edit.canvas}
