"""The parts of a diffusers folder: weights of one class each, from safetensors alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from engine.models import Placement
from engine.models.text_encoder import TextEncoder


def load_part(kind: Any, folder: Path, placement: Placement) -> Any:
    """Load the weights of `folder` as `kind`, a model class of diffusers or transformers.

    Onto the device, to be read and not trained. Raises `OSError` for what is missing.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    weights = kind.from_pretrained(
        folder, dtype=placement.dtype, use_safetensors=True, local_files_only=True
    )
    return weights.to(placement.device).eval().requires_grad_(False)


def tune_parts(
    denoiser: Any, convolutional: Sequence[Any], channels_last: bool, compile: bool
) -> None:
    """Make loaded parts faster: channels-last weights of those that convolve, compiled blocks."""
    if channels_last:
        for part in convolutional:
            part.to(memory_format=torch.channels_last)
    if compile:
        denoiser.compile_repeated_blocks()


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
