"""Photographs for training: any folder of them -> arrays in memory, or a folder of small PNGs.

Pocket's come from Debian's wallpaper packages. Held-out photographs are those that scikit-image and
scikit-learn ship; no photograph that pocket was trained on is one of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from engine.images import BROKEN

Pixels = NDArray[np.uint8]

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
SHORT_SIDE_PX = 640
LEAST_SIDE_PX = 64  # the smallest crop that is trained on
THUMBNAIL_PX = 12
SAME_PICTURE = 4.0  # mean absolute difference of thumbnails, of 255, under which two files are one
FLAT = 6.0  # standard deviation, of 255, under which a picture has nothing to learn from

HELD_OUT_SKIMAGE = ("astronaut", "coffee", "chelsea", "rocket", "motorcycle", "hubble_deep_field")
HELD_OUT_SKLEARN = ("china.jpg", "flower.jpg")


def shrink(image: Image.Image, short_side_px: int) -> Image.Image:
    """RGB copy of `image` whose short side is at most `short_side_px`."""
    image = image.convert("RGB")
    factor = short_side_px / min(image.size)
    if factor >= 1:
        return image
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS)


def thumbnail(image: Image.Image) -> NDArray[np.float32]:
    """(12, 12, 3) float32 in 0..255: what two sizes of one picture have in common."""
    small = image.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)


def read_photographs(folder: Path) -> Iterator[tuple[Path, Image.Image]]:
    """Read every JPEG, PNG and WebP below a folder, upright, in RGB, a short side at most 640 px.

    A file that cannot be read, or is smaller than a crop, is named and left out. Ends the program
    where none is left.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    count = 0
    for file in files:
        try:
            with Image.open(file) as opened:
                if min(opened.size) < LEAST_SIDE_PX:
                    raise ValueError(f"{opened.width}x{opened.height} px are too few")
                image = shrink(ImageOps.exif_transpose(opened), SHORT_SIDE_PX)
        except (*BROKEN, Image.DecompressionBombError) as error:
            print(f"{file} is left out: {error}", file=sys.stderr, flush=True)
            continue
        count += 1
        yield file, image
    if not count:
        raise SystemExit(
            f"{folder} holds no photograph that can be read: {', '.join(sorted(SUFFIXES))}, of at "
            f"least {LEAST_SIDE_PX} px a side, in any sub-folder"
        )


def distinct(
    photographs: Iterator[tuple[Path, Image.Image]],
) -> Iterator[tuple[Path, Image.Image]]:
    """Each picture once, flat ones and repeats (other sizes of the same picture) left out."""
    seen: list[NDArray[np.float32]] = []
    for file, image in photographs:
        key = thumbnail(image)
        if float(np.asarray(image).std()) < FLAT:
            continue
        if any(float(np.abs(key - other).mean()) < SAME_PICTURE for other in seen):
            continue
        seen.append(key)
        yield file, image


def prepare(photographs: Path, output: Path) -> int:
    """Write every distinct picture below `photographs` to `output` as PNG; return the count."""
    output.mkdir(parents=True, exist_ok=True)
    count = 0
    for file, image in distinct(read_photographs(photographs)):
        name = "-".join(file.relative_to(photographs).parts[-4:]).replace(" ", "_")
        image.save(output / f"{count:03d}-{Path(name).stem}.png")
        count += 1
    return count


def load_photographs(folder: Path) -> list[Pixels]:
    """Every photograph below `folder`, sorted by name, as (H, W, 3) uint8: about 2 MB each."""
    return [np.asarray(image) for _, image in read_photographs(folder)]


def detail(photograph: Pixels) -> float:
    """Mean absolute horizontal and vertical step, of 255: how much there is to see."""
    pixels = photograph[::2, ::2].astype(np.float32)
    across, down = np.abs(np.diff(pixels, axis=1)).mean(), np.abs(np.diff(pixels, axis=0)).mean()
    return float(across + down)


def sampling_weights(photographs: list[Pixels]) -> NDArray[np.float64]:
    """Sum 1. Detailed photographs are drawn up to six times as often as plain graphics."""
    weights = np.clip([detail(p) / 12.0 for p in photographs], 1 / 6, 1.0)
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def held_out() -> dict[str, Pixels]:
    """Name -> (H, W, 3) uint8: the photographs that scikit-image and scikit-learn ship."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    pictures: dict[str, Pixels] = {}
    for name in HELD_OUT_SKIMAGE:
        if name == "motorcycle":
            pictures[name] = np.asarray(data.stereo_motorcycle()[0])
        else:
            pictures[name] = np.asarray(getattr(data, name)())
    for name in HELD_OUT_SKLEARN:
        pictures[Path(name).stem] = np.asarray(load_sample_image(name))
    return {name: np.ascontiguousarray(p[..., :3]) for name, p in pictures.items()}


def square(photograph: Pixels, side_px: int) -> Pixels:
    """The centre square of a photograph, resized to (side_px, side_px, 3) uint8."""
    height, width = photograph.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    crop = Image.fromarray(photograph[top : top + side, left : left + side])
    return np.asarray(crop.resize((side_px, side_px), Image.Resampling.LANCZOS))


def main() -> None:
    """Command line: `python -m training.photographs --photographs DIR --output DIR`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=Path, required=True, help="a folder of any depth")
    parser.add_argument("--output", type=Path, required=True, help="folder for the PNGs")
    arguments = parser.parse_args()
    print(f"{prepare(arguments.photographs, arguments.output)} photographs -> {arguments.output}")


if __name__ == "__main__":
    main()
