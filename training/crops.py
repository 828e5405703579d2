"""Random crops of the training photographs: place, scale, mirror and light are drawn anew."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.photographs import Pixels, load_photographs, sampling_weights

Colours = NDArray[np.float32]  # (H, W, 3) in 0..1


class CropSampler:
    """Draws (size, size, 3) float32 crops in 0..1 from photographs (H, W, 3) uint8."""

    def __init__(self, photographs: list[Pixels], seed: int) -> None:
        self.photographs = photographs
        self.weights = sampling_weights(photographs)
        self.random = np.random.default_rng(seed)

    def draw(self, size_px: int, jitter: bool = True) -> Colours:
        """One crop: between 1:1 pixels and the whole short side, often near the latter."""
        photograph = self.photographs[self.random.choice(len(self.weights), p=self.weights)]
        height, width = photograph.shape[:2]
        short = min(height, width)
        least = min(size_px, short)
        side = int(least + (short - least) * self.random.beta(1.6, 1.0))
        top = int(self.random.integers(0, height - side + 1))
        left = int(self.random.integers(0, width - side + 1))
        box = (left, top, left + side, top + side)
        image = Image.fromarray(photograph).resize(
            (size_px, size_px), Image.Resampling.LANCZOS, box=box, reducing_gap=2.0
        )
        crop = np.asarray(image, dtype=np.float32) / 255.0
        if self.random.random() < 0.5:
            crop = crop[:, ::-1]
        return self.relight(crop) if jitter else np.ascontiguousarray(crop)

    def relight(self, crop: Colours) -> Colours:
        """Half of the crops get another gamma, saturation and channel order."""
        if self.random.random() < 0.5:
            return np.ascontiguousarray(crop)
        if self.random.random() < 0.4:
            crop = crop[..., self.random.permutation(3)]
        crop = crop ** np.float32(np.exp(self.random.uniform(-0.4, 0.4)))
        grey = crop.mean(axis=-1, keepdims=True)
        crop = grey + (crop - grey) * np.float32(self.random.uniform(0.5, 1.4))
        return np.ascontiguousarray(np.clip(crop, 0.0, 1.0), dtype=np.float32)

    def batch(self, count: int, size_px: int, jitter: bool = True) -> Colours:
        """(count, size, size, 3) float32 in 0..1."""
        return np.stack([self.draw(size_px, jitter) for _ in range(count)])


def write_crops(sampler: CropSampler, count: int, size_px: int, output: Path) -> None:
    """Write so many crops as PNG: 000000.png and so on."""
    output.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = (sampler.draw(size_px) * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(output / f"{number:06d}.png")


def main() -> None:
    """Command line: `python -m training.crops --photographs DIR --output DIR`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder for the PNGs")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--side", type=int, default=128, help="px")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sampler = CropSampler(load_photographs(options.photographs), options.seed)
    write_crops(sampler, options.count, options.side, options.output)


if __name__ == "__main__":
    main()
