"""On which device a model is: what a user said, or what is there."""

from __future__ import annotations

import logging

import torch

from engine.errors import ModelError

logger = logging.getLogger(__name__)


def choose_device(wanted: str) -> torch.device:
    """Choose the device: `wanted` as torch names it, or auto, a GPU where there is one.

    Raises `ModelError` where a GPU is asked for and none is there.
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
        logger.info("device %s: %s", wanted, "a GPU is there" if wanted == "cuda" else "no GPU")
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"device {wanted} was asked for, and torch finds no GPU here")
    return torch.device("cuda", 0) if wanted == "cuda" else torch.device(wanted)
