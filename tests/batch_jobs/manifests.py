"""Rows to check, and the check of a manifest over them; manifests with masks in every shape."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from batch_jobs.config import JobConfig
from batch_jobs.manifest.columns import PICTURES
from batch_jobs.manifest.plan import open_manifest, read_manifest
from batch_jobs.records import from_table
from batch_jobs.stages.context import BlockContext
from batch_jobs.stages.decode import DecodedRow, decode_rows
from batch_jobs.validation.check import ManifestCheck
from engine.registry import find_model
from engine.spec import ModelSpec
from tests.batch_jobs.shapes import batch_line, data_url, write_lines

POCKET = find_model("pocket")
GOOD = {"image": "coffee.jpg", "instruction": "add fog", "num_inference_steps": 2}
FOG = {"instruction": "add fog", "num_inference_steps": 2, "seed": 5}
# How a manifest may give an image or a mask, and the shape of its file.
GIVEN = (
    *("path.jsonl", "uri.jsonl", "data.jsonl"),
    *("path.csv", "uri.csv"),
    *("path.parquet", "uri.parquet", "data.parquet", "bytes.parquet", "struct.parquet"),
    *("path.openai.jsonl", "data.openai.jsonl"),
)


def rows(count: int, **cells: Any) -> list[dict[str, Any]]:
    return [{"id": f"row-{i}", **GOOD, **cells} for i in range(count)]


def checked(manifest: str, images: int = 20, **config: Any) -> ManifestCheck:
    check = ManifestCheck(open_manifest(manifest), JobConfig(**config), POCKET)
    check.check_rows()
    check.check_images(images)
    return check


def decoded(manifest: str, spec: ModelSpec, root: Path | None = None) -> list[DecodedRow]:
    """What the first stage makes of a manifest beside its images."""
    context = BlockContext(spec, 0, str(Path(manifest).parent), root and str(root))
    return from_table(DecodedRow, decode_rows(read_manifest(manifest), context))


def mask_png(size_px: tuple[int, int], box: tuple[int, int, int, int]) -> bytes:
    """OpenAI's mask for an image of (width, height) px: only what lies in the box (left, top,
    right, bottom) may be edited."""
    alpha = np.full(size_px[::-1], 255, np.uint8)
    alpha[box[1] : box[3], box[0] : box[2]] = 0
    image = Image.new("RGB", size_px)
    image.putalpha(Image.fromarray(alpha))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write_masked(folder: Path, given: str, rows: Sequence[dict[str, Any]]) -> str:
    """Write a manifest that gives its pictures in one of the ways of `GIVEN`, and what it names.

    `rows`: id, instruction and options; `image`, and where there is one `mask`, as the bytes of a
    file; `image` may be a list of these.
    """
    way, _, shape = given.partition(".")
    cells = [
        {
            name: _given(folder / f"{row['id']}-{name}", way, value) if name in PICTURES else value
            for name, value in row.items()
        }
        for row in rows
    ]
    path = folder / given
    if shape == "openai.jsonl":
        return write_lines(path, [_openai_line(**row) for row in cells])
    if shape == "jsonl":
        return write_lines(path, cells)
    columns = list(dict.fromkeys(name for row in cells for name in row))
    if shape == "parquet":
        pq.write_table(pa.table({c: [row.get(c) for row in cells] for c in columns}), path)
        return str(path)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(cells)
    return str(path)


def _given(file: Path, way: str, data: Any) -> Any:
    if isinstance(data, list):
        return [_given(file.with_name(f"{file.name}-{i}"), way, one) for i, one in enumerate(data)]
    if data is None:
        return None
    if way in ("path", "uri"):
        file.write_bytes(data)
        return file.name if way == "path" else file.as_uri()
    if way == "data":
        return data_url(data)
    return data if way == "bytes" else {"bytes": data, "path": None}


def _openai_line(
    id: str, image: Any, instruction: str, mask: str | None = None, **options: Any
) -> dict[str, Any]:
    body: dict[str, Any] = {} if mask is None else {"mask": {"image_url": mask}}
    images = image if isinstance(image, list) else [image]
    body["images"] = [{"image_url": url} for url in images]
    return batch_line(id, "", prompt=instruction, **body, **options)
