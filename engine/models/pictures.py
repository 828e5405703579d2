"""Pictures on their way into a VAE and out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from engine.edit import EditRequest
from engine.errors import NonFinite
from engine.masks import mask_to_latents
from engine.tensor_cache import TensorCache


def to_unit(pixels: np.ndarray, device: torch.device) -> torch.Tensor:
    """Scale (N, H, W, 3) uint8 to (N, 3, H, W) float32 from -1 to 1, on the device."""
    images = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2)
    return (images.float() / 255 * 2 - 1).contiguous()


def to_pixels(images: torch.Tensor) -> list[np.ndarray]:
    """Scale (N, 3, H, W) from -1 to 1 to N arrays (H, W, 3) uint8; beyond that it is cut off.

    Raises `NonFinite`.
    """
    images = images.float()
    if not torch.isfinite(images).all():
        raise NonFinite("the decoded image holds NaN or infinity")
    levels = (images * 0.5 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
    return list(levels.permute(0, 2, 3, 1).cpu().numpy())


def latent_mask(request: EditRequest, factor: int, device: torch.device) -> torch.Tensor | None:
    """Pool a request's mask to its latents on the device: see `masks.mask_to_latents`.

    (1, H / factor, W / factor) float32, 0 to 1; None where the request has no mask.
    """
    if request.mask is None:
        return None
    return torch.from_numpy(mask_to_latents(request.mask, factor))[None].to(device)


def decode_latents(vae: Any, latents: torch.Tensor, *, float32: bool) -> list[np.ndarray]:
    """Decode latents (N, C, h, w) in the VAE's own scale to N arrays (H, W, 3) uint8.

    `float32` as for `Editor.decode`. Raises `NonFinite`.
    """
    with in_float32(vae, float32):
        return to_pixels(vae.decode(latents.to(vae.dtype), return_dict=False)[0])


@contextmanager
def in_float32(vae: Any, wanted: bool) -> Iterator[None]:
    """Make the weights of `vae` float32 meanwhile, where `wanted`: it holds every half exactly."""
    dtype = vae.dtype
    try:
        if wanted:
            vae.float()
        yield
    finally:
        if wanted:
            vae.to(dtype)


class SourceLatents:
    """Encodes sources; one whose digest was met lately is not encoded again."""

    def __init__(self, encode: Callable[[np.ndarray], torch.Tensor], max_bytes: int) -> None:
        """`encode`: (N, H, W, 3) uint8 -> (N, C, h, w); `max_bytes`: of the latents kept."""
        self._encode = encode
        self._kept = TensorCache(max_bytes)

    def of_canvases(self, requests: Sequence[EditRequest]) -> list[torch.Tensor]:
        """Return (C, h, w) of the canvas of each request, all of one shape."""
        return self.of([r.pixels for r in requests], [r.digest for r in requests])

    def of(self, pictures: Sequence[np.ndarray], digests: Sequence[str]) -> list[torch.Tensor]:
        """Return (C, h, w) of each picture (H, W, 3) uint8, all of one shape.

        `digests`: of the pictures' pixels; empty: not known, so nothing is kept.
        """
        keys = [(digest, p.shape) for digest, p in zip(digests, pictures, strict=True)]
        latents = [self._kept.get(key) if key[0] else None for key in keys]
        new = [i for i, known in enumerate(latents) if known is None]
        if new:
            encoded = self._encode(np.stack([pictures[i] for i in new]))
            for i, made in zip(new, encoded, strict=True):
                latents[i] = made
                if keys[i][0]:
                    self._kept.put(keys[i], made)
        return latents
