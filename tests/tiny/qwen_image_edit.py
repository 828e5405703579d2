"""Qwen-Image-Edit, -Plus (2509) and 2511: Qwen2.5-VL reads the instruction with the source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from diffusers import QwenImageTransformer2DModel
from diffusers.pipelines.qwenimage import (
    pipeline_qwenimage_edit,
    pipeline_qwenimage_edit_inpaint,
    pipeline_qwenimage_edit_plus,
)
from PIL import Image

from tests.tiny import autoencoders, schedulers, text_encoders, tokenizers
from tests.tiny.edits import Edit
from tests.tiny.folder import save
from tests.tiny.processors import QwenVLProcessor
from tests.tiny.weights import GAIN, random_model


def build(folder: Path) -> None:
    """Write Qwen-Image-Edit: one source."""
    save(folder, "QwenImageEditPipeline", _parts())


def build_plus(folder: Path) -> None:
    """Write Qwen-Image-Edit-2509: several sources."""
    save(folder, "QwenImageEditPlusPipeline", _parts())


def build_2511(folder: Path) -> None:
    """Write Qwen-Image-Edit-2511: tokens of the sources are modulated at time 0."""
    save(folder, "QwenImageEditPlusPipeline", _parts(zero_cond_t=True))


def _parts(**settings: Any) -> dict[str, Any]:
    transformer = partial(
        QwenImageTransformer2DModel,
        patch_size=2,
        in_channels=4 * autoencoders.LATENT_CHANNELS,
        out_channels=autoencoders.LATENT_CHANNELS,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=text_encoders.VISION_WIDTH,
        axes_dims_rope=(8, 4, 4),
        **settings,
    )
    tokenizer = tokenizers.qwen()
    return {
        # Qwen-Image's: the last level of noise is stretched to 0.02 (`shift_terminal`).
        "scheduler": schedulers.flow(
            shift=1.0, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
        ),
        "text_encoder": text_encoders.qwen25_vl(tokenizer),
        "tokenizer": tokenizer,
        # Several pictures are shown at 384 x 384 px in area: as 16 tokens each, not as 196.
        "processor": QwenVLProcessor.of_patches(14, tokenizer, max_pixels=128**2),
        "transformer": random_model(transformer, gain=GAIN),
        "vae": autoencoders.qwen(),
    }


def arguments(edit: Edit) -> dict[str, Any]:
    """Of the pipeline's call, beside those that all take."""
    several = len(edit.sources) > 1
    mask = {} if edit.mask is None else {"mask_image": Image.fromarray(edit.mask)}
    return {"image": edit.images if several else edit.images[0], **edit.canvas, **mask}


@contextmanager
def patched(pipeline: Any, edit: Edit) -> Iterator[None]:
    """Three changes while the pipeline is called.

    diffusers enlarges every source to 1024 x 1024 px in area: here, to the edit's canvas, or a
    picture would take minutes. And it does not say which tokens are of an image, without which
    transformers 5 falls back to positions of one axis: here it is said. Where it inpaints it draws
    the source from the VAE's posterior: here it is the mode, as where it edits.
    """
    area = edit.canvas["height"] * edit.canvas["width"]
    single, plus = pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus
    inpaint = pipeline_qwenimage_edit_inpaint
    measure, retrieve = single.calculate_dimensions, inpaint.retrieve_latents

    def canvas(_: int, ratio: float) -> Any:
        return measure(area, ratio)

    def mode(encoded: Any, generator: Any = None) -> Any:
        return retrieve(encoded, generator, "argmax")

    hook = pipeline.text_encoder.register_forward_pre_hook(_say_which, with_kwargs=True)
    with (
        mock.patch.object(plus, "VAE_IMAGE_SIZE", area),
        mock.patch.object(single, "calculate_dimensions", canvas),
        mock.patch.object(inpaint, "calculate_dimensions", canvas),
        mock.patch.object(inpaint, "retrieve_latents", mode),
    ):
        try:
            yield
        finally:
            hook.remove()


def _say_which(model: Any, arguments: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """With `mm_token_type_ids`, 1 where a token is of an image."""
    types = (given["input_ids"] == model.config.image_token_id).int()
    return arguments, {"mm_token_type_ids": types, **given}
