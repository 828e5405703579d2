"""Triplets and runs of `train_pix2pix` for tests."""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import skimage.data
from PIL import Image

from training.pix2pix.log import Log
from training.pix2pix.options import new_parser
from training.pix2pix.run import Run
from training.pix2pix.workers import prepare
from training.train_pix2pix import settled

SIDE_PX = 64
COUNT = 10


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_triplets(file: Path, count: int = COUNT, broken: int | None = None) -> Path:
    """Crops of a photograph, each with its negative; the target of `broken` is none."""
    rows = []
    for number in range(count):
        crop = skimage.data.coffee()[number * 20 :, number * 30 :][:SIDE_PX, :SIDE_PX]
        target = b"no picture" if number == broken else png(255 - crop)
        rows.append(
            {
                "original_image": {"bytes": png(crop), "path": None},
                "edit_prompt": f"make it the negative {number}",
                "edited_image": {"bytes": target, "path": None},
            }
        )
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=4)
    return file


def options_of(model: Path | str, data: Path, output: Path, **values: Any) -> argparse.Namespace:
    """Of a run in this process: a batch of 4, a line of the log for each step, no grid."""
    given = {
        "pretrained_model_name_or_path": model,
        "train_data": data,
        "output_dir": output,
        "train_batch_size": 4,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "num_validation_images": 0,
        "num_workers": 0,
        **values,
    }
    words = []
    for name, value in given.items():
        words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return settled(new_parser(None).parse_args(words))


def run_of(model: Path | str, data: Path, output: Path, **values: Any) -> Run:
    """A run in this process."""
    options = options_of(model, data, output, **values)
    return Run(options, prepare(options))


def losses(output: Path) -> dict[int, float]:
    """Step -> loss; each step may be there once."""
    lines = Log(output).lines()
    found = {line["step"]: line["loss"] for line in lines}
    assert len(found) == len(lines)
    return found
