"""DreamLite and its mobile variant: Qwen3-VL, a UNet that sees the source beside the picture."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from diffusers import DreamLiteUNetModel

from tests.tiny import autoencoders, schedulers, text_encoders, tokenizers
from tests.tiny.edits import Edit
from tests.tiny.folder import save
from tests.tiny.processors import Qwen3Processor
from tests.tiny.weights import GAIN, random_model


def build(folder: Path) -> None:
    """Write DreamLite: guidance of three branches."""
    save(folder, "DreamLitePipeline", _parts())


def build_mobile(folder: Path) -> None:
    """Write DreamLite mobile: 4 steps, no guidance."""
    save(folder, "DreamLiteMobilePipeline", _parts())


def _parts() -> dict[str, Any]:
    time_width = 8
    unet = partial(
        DreamLiteUNetModel,
        sample_size=8,
        in_channels=autoencoders.LATENT_CHANNELS,
        out_channels=autoencoders.LATENT_CHANNELS,
        block_out_channels=(8, 16, 16),
        layers_per_block=1,
        norm_num_groups=2,
        attention_head_dim=2,
        cross_attention_dim=16,
        encoder_hid_dim=text_encoders.VISION_WIDTH,
        encoder_hid_dim_type="text_proj_rms",
        addition_embed_type="time",
        addition_time_embed_dim=time_width,
        projection_class_embeddings_input_dim=2 * time_width,
        use_linear_projection=True,
        ff_mult=2,
    )
    tokenizer = tokenizers.qwen()
    return {
        "text_encoder": text_encoders.qwen3_vl(tokenizer),
        "tokenizer": tokenizer,
        "processor": Qwen3Processor.of_patches(16, tokenizer),
        "vae": autoencoders.tiny(),
        "unet": random_model(unet, gain=GAIN),
        "scheduler": schedulers.flow(),
    }


def arguments(edit: Edit) -> dict[str, Any]:
    """Of the pipeline's call, beside those that all take."""
    return {"image": edit.images[0], **edit.canvas}
