"""A sample grid while training runs: source, target, and what the model makes of the source."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from training.photographs import Pixels
from training.picture_grid import save_rows
from training.pix2pix.latents import canvas
from training.pix2pix.model import Parts
from training.pix2pix.triplet_files import TripletFiles


@torch.no_grad()
def save_preview(
    parts: Parts,
    triplets: TripletFiles,
    usable: NDArray[np.int64],
    options: argparse.Namespace,
    file: Path,
) -> None:
    """Write a grid of `num_validation_images` triplets, spread evenly; a column each."""
    places = np.linspace(0, len(usable) - 1, min(options.num_validation_images, len(usable)))
    chosen = [int(usable[round(place)]) for place in places]
    found = [_pictures(triplets, index, options.resolution) for index in chosen]
    texts = [options.validation_prompt or triplets.triplets[index].instruction for index in chosen]
    made = parts.pipeline()(
        texts,
        image=[Image.fromarray(source) for source, _ in found],
        num_inference_steps=options.validation_num_inference_steps,
        guidance_scale=options.validation_guidance_scale,
        image_guidance_scale=options.validation_image_guidance_scale,
        generator=[torch.Generator().manual_seed(number) for number in range(len(chosen))],
        output_type="np",
    ).images
    ours = list((made * 255).round().astype(np.uint8))
    save_rows([*map(list, zip(*found, strict=True)), ours], file)


def _pictures(triplets: TripletFiles, index: int, side_px: int) -> tuple[Pixels, Pixels]:
    (files,) = triplets.pictures(range(index, index + 1))
    if isinstance(files, Exception):
        raise files
    source, target = ((canvas(data, side_px) * 255).round().astype(np.uint8) for data in files)
    return source, target
