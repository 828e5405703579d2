"""The latents of triplets: computed once, on disk, for every epoch, worker and restart."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from engine.errors import EngineError
from engine.images import decode
from training.crops import Colours
from training.pix2pix.triplet_files import Pictures, TripletFiles

CHUNK = 128  # triplets of a file: 8 MB of pocket's at 128 px, 2 MB of Stable Diffusion's at 256 px
PICTURES_AT_ONCE = 16
FAULTS = ".faults"
Encode = Callable[[Colours], torch.Tensor]  # (N, H, W, 3) in 0..1 -> (N, C, h, w)


class Latents:
    """Of each triplet (2, C, h, w) float16, source and target; NaN for one that has a fault."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder, self._count = folder, count
        self._open: dict[int, NDArray[np.float16]] = {}

    def fill(
        self, triplets: TripletFiles, side_px: int, encode: Encode, share: tuple[int, int]
    ) -> None:
        """Compute the chunks that are not there yet; share = (this worker, workers)."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for number in range(share[0], math.ceil(self._count / CHUNK), share[1]):
            if not self._file(number).exists():
                rows = range(number * CHUNK, min((number + 1) * CHUNK, self._count))
                faults: list[str] = []
                latents = np.concatenate(list(_encoded(triplets, rows, side_px, encode, faults)))
                if faults:
                    write_whole(self._file(number).with_suffix(FAULTS), "".join(faults).encode())
                buffer = io.BytesIO()
                np.save(buffer, latents)
                write_whole(self._file(number), buffer.getvalue())

    def usable(self) -> NDArray[np.int64]:
        """The positions of all triplets that have no fault."""
        chunks = [self._chunk(number) for number in range(math.ceil(self._count / CHUNK))]
        is_sound = [np.isfinite(chunk[:, 0, 0, 0, 0].astype(np.float32)) for chunk in chunks]
        return np.flatnonzero(np.concatenate(is_sound))

    def faults(self) -> str:
        """Say which triplets are left out, and why, a line each."""
        return "".join(file.read_text() for file in sorted(self._folder.glob(f"*{FAULTS}")))

    def of(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """(N, 2, C, h, w) float32."""
        found = [self._chunk(int(index) // CHUNK)[int(index) % CHUNK] for index in indices]
        return torch.from_numpy(np.stack(found).astype(np.float32))

    def _chunk(self, number: int) -> NDArray[np.float16]:
        if number not in self._open:
            self._open[number] = np.load(self._file(number), mmap_mode="r")
        return self._open[number]

    def _file(self, number: int) -> Path:
        return self._folder / f"{number:06d}.npy"


def write_whole(file: Path, data: bytes) -> None:
    """Write a file that appears with all of its bytes, or not at all."""
    half = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    half.write_bytes(data)
    os.replace(half, file)


def canvas(data: bytes, side_px: int) -> Colours:
    """The centre square of an image file as (side_px, side_px, 3) float32 in 0..1.

    Raises `ImageError`.
    """
    image = decode(data).image
    fitted = ImageOps.fit(image, (side_px, side_px), Image.Resampling.LANCZOS)
    return np.asarray(fitted, dtype=np.float32) / 255.0


def _encoded(
    triplets: TripletFiles, rows: range, side_px: int, encode: Encode, faults: list[str]
) -> Iterator[NDArray[np.float16]]:
    """Yield (n, 2, C, h, w), a few triplets at a time; what has a fault is told in `faults`."""
    for start in range(rows.start, rows.stop, PICTURES_AT_ONCE):
        part = range(start, min(start + PICTURES_AT_ONCE, rows.stop))
        pairs = []
        for row, files in zip(part, triplets.pictures(part), strict=True):
            try:
                pairs.append(_pair(files, side_px))
            except EngineError as error:
                name = triplets.triplets[row].halves[0].id
                faults.append(f"{name}: {error.message}\n")
                pairs.append(np.full((2, side_px, side_px, 3), np.nan, dtype=np.float32))
        pictures = np.stack(pairs)
        is_sound = np.isfinite(pictures[:, 0, 0, 0, 0])
        latents = encode(np.nan_to_num(pictures).reshape(-1, side_px, side_px, 3))
        found = latents.float().cpu().numpy().astype(np.float16)
        found = found.reshape(len(part), 2, *found.shape[1:])
        found[~is_sound] = np.nan
        yield found


def _pair(files: Pictures | EngineError, side_px: int) -> Colours:
    if isinstance(files, EngineError):
        raise files
    return np.stack([canvas(data, side_px) for data in files])
