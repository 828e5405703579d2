"""Latents as the tokens of a transformer: a token for each patch of 2 x 2, or for each place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def pack(latents: torch.Tensor) -> torch.Tensor:
    """(N, C, h, w) -> (N, h/2 w/2, 4 C)."""
    n, c, h, w = latents.shape
    patches = latents.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(n, (h // 2) * (w // 2), 4 * c)


def unpack(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(N, h/2 w/2, 4 C) -> (N, C, h, w), for `height` h and `width` w of the latents."""
    n, _, channels = tokens.shape
    patches = tokens.reshape(n, height // 2, width // 2, channels // 4, 2, 2)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(n, channels // 4, height, width)


def from_grid(latents: torch.Tensor) -> torch.Tensor:
    """(..., C, h, w) -> (..., h w, C): a token for each place."""
    return latents.flatten(-2).transpose(-1, -2)


def to_grid(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(..., h w, C) -> (..., C, h, w), for `height` h and `width` w."""
    return tokens.transpose(-1, -2).unflatten(-1, (height, width))


def grid(first: int, height: int, width: int, device: torch.device) -> torch.Tensor:
    """Return the positions (height width, 3) of a picture's tokens: (`first`, row, column)."""
    rows = torch.arange(height, device=device).repeat_interleave(width)
    columns = torch.arange(width, device=device).repeat(height)
    return torch.stack([torch.full_like(rows, first), rows, columns], dim=1)


def canvas_shift(tokens: int, scheduler_config: Mapping[str, Any]) -> float:
    """Return `mu`, the shift of the noise levels for a canvas of so many tokens.

    A straight line through two points of the scheduler's configuration, whose defaults here are
    FLUX.1's (diffusers' `calculate_shift`).
    """
    low = scheduler_config.get("base_image_seq_len", 256)
    high = scheduler_config.get("max_image_seq_len", 4096)
    least = scheduler_config.get("base_shift", 0.5)
    most = scheduler_config.get("max_shift", 1.15)
    slope = (most - least) / (high - low)
    return tokens * slope + (least - slope * low)


def first_step(num_inference_steps: int, strength: float | None) -> int | None:
    """Return the step that a flow begins at: `None` from noise alone, at least one is left.

    `strength`: the share of the steps that is run (diffusers' `get_timesteps` of FLUX).
    """
    if strength is None:
        return None
    left = num_inference_steps - min(num_inference_steps * strength, num_inference_steps)
    return min(int(left), num_inference_steps - 1)
