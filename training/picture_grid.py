"""A grid of pictures while training runs: source, and for each kind the true edit over ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image

from training.conditioning import Conditioning
from training.editor import edit_latents
from training.kinds import KINDS
from training.photographs import Pixels, square
from training.train_autoencoder import to_tensor

SIDE_PX = 96
COLUMNS = 16
STEPS = 6


def shown(images: torch.Tensor) -> Pixels:
    """(N, 3, H, W) in -1..1 -> (N, H, W, 3) uint8."""
    scaled = ((images.float().clamp(-1, 1) + 1) * 127.5).round()
    return np.asarray(scaled.permute(0, 2, 3, 1).cpu().numpy().astype(np.uint8))


@torch.no_grad()
def edits_of(
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    conditioning: Conditioning,
    pictures: Pixels,
    names: list[str],
) -> Pixels:
    """Edit picture i (N, H, W, 3) uint8 as kind names[i] says; (N, H, W, 3) uint8."""
    device = next(unet.parameters()).device
    images = to_tensor(pictures.astype(np.float32) / 255.0, device)
    sources = vae.encode(images).latent_dist.mean
    sequences = conditioning(names).to(device)
    nothing = conditioning([""]).to(device)
    latents = edit_latents(unet, sources, sequences, nothing, STEPS)
    return shown(vae.decode(latents / vae.config.scaling_factor).sample)


def save_grid(
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    conditioning: Conditioning,
    photographs: list[Pixels],
    output: tuple[Path, int],
) -> None:
    """One photograph a kind; three rows a line: source, true edit, our edit.

    output = (file, show every n-th kind).
    """
    file, every = output
    names = list(KINDS)[::every]
    stride = max(1, len(photographs) // len(names))
    sources = [
        square(photographs[i * stride % len(photographs)], SIDE_PX) for i in range(len(names))
    ]
    ours = edits_of(unet, vae, conditioning, np.stack(sources), names)
    rows: list[list[Pixels]] = []
    for start in range(0, len(names), COLUMNS):
        part = range(start, min(start + COLUMNS, len(names)))
        true = [KINDS[names[i]].apply(sources[i].astype(np.float32) / 255.0) * 255 for i in part]
        blank = [np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)] * (COLUMNS - len(part))
        for row in ([sources[i] for i in part], true, [ours[i] for i in part]):
            rows.append([*row, *blank])
    save_rows(rows, file)


def save_rows(rows: list[list[Pixels]], file: Path) -> None:
    """Write rows of pictures of one size, each (H, W, 3) in 0..255, below one another."""
    lines = [np.concatenate(row, axis=1) for row in rows]
    Image.fromarray(np.concatenate(lines).astype(np.uint8)).save(file)
