"""What is found of spoiled pictures: sources before the work.

Photographs that no bound was chosen on, whole and in four cuts, are spoiled by known amounts; a
photograph as it is has nothing to be found. The bounds were chosen on the wallpapers that
pocket is trained on.

    python -m benchmarks.bench_quality sources
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from skimage import data

from benchmarks.spoiling import SHAKEN, SPOILS, saved
from benchmarks.workloads import print_machine
from engine.config import EngineConfig
from engine.quality.poor_source import find_poor
from training.photographs import held_out, load_photographs

CUT = 0.75  # of each side: four cuts, one from each corner
RESOLUTION_PX = 128  # pocket's; every photograph has more


def views(folder: Path | None) -> Iterator[tuple[str, np.ndarray]]:
    """Yield held-out photographs, or those of a folder, whole and in cuts."""
    photographs = held_out() | {"camera": np.repeat(data.camera()[..., None], 3, axis=2)}
    if folder is not None:
        photographs = {str(i): pixels for i, pixels in enumerate(load_photographs(folder))}
    for name, pixels in photographs.items():
        height, width = (round(CUT * side) for side in pixels.shape[:2])
        yield name, pixels
        for top in (0, pixels.shape[0] - height):
            for left in (0, pixels.shape[1] - width):
                yield f"{name} {left},{top}", pixels[top : top + height, left : left + width]


def print_sources(folder: Path | None) -> None:
    """Print how many spoiled photographs are found, and how many good ones are called poor."""
    found: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    count = 0
    for name, pixels in views(folder):
        count += 1
        for code in find_poor(saved(pixels), RESOLUTION_PX):
            wrong[code] += 1
            print(f"  {name}: {code}")
        found[SHAKEN[0]] += "source_blurry" in find_poor(saved(SHAKEN[1](pixels)), RESOLUTION_PX)
        for code, spoils in SPOILS.items():
            for spoiled, spoil in spoils:
                found[spoiled] += code in find_poor(saved(spoil(pixels)), RESOLUTION_PX)
    print(f"{count} views as they are: {wrong.total()} called poor {dict(wrong)}")
    for code, spoils in SPOILS.items():
        for spoiled, _ in spoils:
            print(f"{code}: {spoiled}: {found[spoiled]} of {count}")
        total = sum(found[spoiled] for spoiled, _ in spoils)
        print(f"{code}: {total / (count * len(spoils)):.1%} of all")
    print(f"{SHAKEN[0]}: {found[SHAKEN[0]]} of {count}")


def print_time(megapixels: int = 24) -> None:
    """Print the milliseconds that a large photograph takes."""
    size = round((megapixels * 1.5e6) ** 0.5), round((megapixels / 1.5e-6) ** 0.5)
    image = Image.fromarray(cv2.resize(held_out()["china"], size))
    for label, picture in ((f"{megapixels} MP", image), ("640 px", image.resize((640, 427)))):
        times = []
        for _ in range(9):
            start = time.perf_counter()
            find_poor(picture, RESOLUTION_PX)
            times.append(1000 * (time.perf_counter() - start))
        print(f"{label}: {np.median(times):.1f} ms")


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["sources"])
    parser.add_argument("--photographs", type=Path, help="a folder, in place of the held-out ones")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print_machine(EngineConfig().threads)
    print_sources(options.photographs)
    print_time()


if __name__ == "__main__":
    main()
