"""The parts of a diffusers folder: weights of one class each, from safetensors alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from engine.errors import ModelError
from engine.models import Placement
from engine.models.onednn import multiply_by_onednn
from engine.models.quantization import quantization_config
from engine.models.text_encoder import TextEncoder
from engine.registry import read_json


def load_part(kind: Any, folder: Path, placement: Placement, **settings: Any) -> Any:
    """Load the weights of `folder` as `kind`, a model class of diffusers or transformers.

    Onto the device, to be read and not trained. `settings` go to its `from_pretrained`. Raises
    `OSError` for what is missing.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    weights = kind.from_pretrained(
        folder, dtype=placement.dtype, use_safetensors=True, local_files_only=True, **settings
    )
    return weights.to(placement.device).eval().requires_grad_(False)


def load_denoiser(kind: Any, folder: Path, placement: Placement) -> Any:
    """Load the weights of `folder` as `load_part` does, quantised as the placement says.

    One weight after another, so that the host holds them once, quantised. Raises `ModelError` where
    the folder's own are quantised.
    """
    config = quantization_config(placement.quantization, placement.dtype)
    if config is None:
        return load_part(kind, folder, placement)
    if "quantization_config" in read_json(folder / "config.json"):
        raise ModelError(
            f"{folder} is quantised already, and quantization {placement.quantization} was asked "
            "for: leave it out"
        )
    with torch.no_grad():  # torchao would keep what a gradient needs until the weight is done
        return load_part(kind, folder, placement, quantization_config=config)


def check_channels(folder: Path, model: str, part: str, found: int, wanted: int) -> None:
    """Refuse a folder whose `part` takes another number of channels than that of `model` does."""
    if found != wanted:
        raise ModelError(f"{folder} is no {model}: its {part} takes {found} channels, not {wanted}")


def downsampling(block_out_channels: Sequence[int]) -> int:
    """Count the px of a side that one value of the last of these levels stands for."""
    return 2 ** (len(block_out_channels) - 1)


def canvas_sides(vae: Mapping[str, Any], unet: Mapping[str, Any]) -> dict[str, int]:
    """Read the canvas off the configurations of a VAE and its UNet, in px: `resolution`, 512 where
    they name none, and `multiple`, the VAE's factor x the UNet's downsampling."""
    factor = downsampling(vae["block_out_channels"])
    side = unet.get("sample_size")
    return {
        "resolution": side * factor if isinstance(side, int) else 512,
        "multiple": factor * downsampling(unet["block_out_channels"]),
    }


def tune_parts(
    denoiser: Any, convolutional: Sequence[Any], channels_last: bool, compile: bool
) -> None:
    """Make loaded parts faster: channels-last weights of those that convolve, compiled blocks, and
    where nothing is compiled residual blocks in place and the products of a CPU."""
    if channels_last:
        for part in convolutional:
            part.to(memory_format=torch.channels_last)
    if compile:
        denoiser.compile_repeated_blocks()
    else:
        from engine.models.residuals import add_in_place  # diffusers is loaded by now
        from engine.models.upsampling import upsample_at_small_size

        for part in (denoiser, *convolutional):
            add_in_place(part)
            multiply_by_onednn(part)
            upsample_at_small_size(part)


def load_text_encoder(
    kind: Any,
    folder: Path,
    placement: Placement,
    *,
    reader: Callable[[Any], Any] = lambda whole: whole,
) -> TextEncoder:
    """Load the weights of `folder` as `load_part` does, to where `placement.text_encoder` says.

    `reader`: of the whole, what reads texts; the rest is dropped before the device holds it.
    """
    whole = load_part(kind, folder, replace(placement, device=torch.device("cpu")))
    return TextEncoder(reader(whole), placement)
