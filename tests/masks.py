"""Masks as users draw them, and as OpenAI's clients send them."""

from __future__ import annotations

import numpy as np

from tests.conftest import png


def draw_mask(kind: str, size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8 of a `size` (width, height) px: 255 where the edit is wanted, 0 elsewhere."""
    width, height = size
    mask = np.zeros((height, width), np.uint8)
    if kind == "box":
        mask[height // 4 : height // 2, width // 4 : width // 2] = 255
    elif kind == "border":
        mask[:, : width // 3] = 255
        mask[-height // 4 :] = 255
    elif kind == "soft":
        mask[:] = np.linspace(-200, 400, width).clip(0, 255).astype(np.uint8)
    elif kind == "stroke":  # two lines, one pixel wide
        mask[height // 3] = 255
        mask[:, width // 2] = 255
    elif kind == "dots":
        mask[::37, ::41] = 255
    elif kind == "ring":
        down, across = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        distance = np.hypot(down, across)
        mask[(distance > 0.4) & (distance < 0.8)] = 255
    else:
        raise ValueError(kind)
    return mask


KINDS = ("box", "border", "soft", "stroke", "dots", "ring")


def openai_mask(mask: np.ndarray) -> bytes:
    """A PNG whose alpha is 0 where `mask` is 255."""
    return png(np.dstack([0 * mask, 255 - mask]))
