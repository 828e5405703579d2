"""The parts of a diffusers folder: weights of one class each, from safetensors alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def load_part(kind: Any, folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """Load the weights of `folder` as `kind`, a model class of diffusers or transformers.

    Onto the device, as `dtype`, to be read and not trained. Raises `OSError` for what is missing.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    weights = kind.from_pretrained(folder, dtype=dtype, use_safetensors=True, local_files_only=True)
    return weights.to(device).eval().requires_grad_(False)
