"""Held-out photographs, cut so that the canvas of each is an exact fraction of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image

from engine import EditOptions
from engine.geometry import Geometry, plan_geometry, to_canvas
from engine.registry import find_model
from training.photographs import held_out

SPEC = find_model("pocket")
# How many times its canvas a photograph is, and the width and height in px that are cut out of it.
CUTS = {
    "astronaut": (4, 512, 512),
    "coffee": (3, 576, 384),
    "rocket": (4, 640, 384),
    "motorcycle": (4, 704, 448),
    "hubble_deep_field": (4, 512, 512),
    "china": (3, 624, 384),
    "flower": (2, 512, 384),
}


@dataclass(frozen=True)
class Photograph:
    """A photograph whose canvas is exactly 1/k of it."""

    name: str
    pixels: np.ndarray  # (H, W, 3) uint8
    geometry: Geometry
    canvas: np.ndarray  # (h, w, 3) uint8
    reconstructed: np.ndarray  # the canvas after the autoencoder


def photographs(names: list[str]) -> Iterator[Photograph]:
    """Cut the middle out of each photograph, so that its canvas is exactly 1/k of it."""
    vae = AutoencoderKL.from_pretrained(SPEC.source, subfolder="vae").eval()
    for name in names:
        whole, (k, width, height) = held_out()[name], CUTS[name]
        top, left = (whole.shape[0] - height) // 2, (whole.shape[1] - width) // 2
        pixels = np.ascontiguousarray(whole[top : top + height, left : left + width])
        options = EditOptions(size=f"{width // k}x{height // k}", restore_size=True)
        geometry = plan_geometry((width, height), options, SPEC)
        canvas = to_canvas(Image.fromarray(pixels), geometry)
        yield Photograph(name, pixels, geometry, canvas, reconstruct(vae, canvas))


@torch.inference_mode()
def reconstruct(vae: AutoencoderKL, canvas: np.ndarray) -> np.ndarray:
    """Send a canvas (h, w, 3) uint8 through the autoencoder alone."""
    image = torch.from_numpy(canvas).permute(2, 0, 1)[None].float() / 127.5 - 1
    decoded = vae.decode(vae.encode(image).latent_dist.mode()).sample[0]
    levels = (decoded * 0.5 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
    return levels.permute(1, 2, 0).numpy()
