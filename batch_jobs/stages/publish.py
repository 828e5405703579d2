"""Edited rows -> published images and thin ledger rows; the images never reach the driver."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from batch_jobs.manifest.rows import sha256
from batch_jobs.storage.storage import Storage
from engine.geometry import Geometry, from_canvas
from engine.images import encode

PUBLISHED = pa.schema([("entry", pa.string())])


def publish_rows(block: pa.Table, storage: Storage) -> pa.Table:
    """Encode and publish the images of a block; returns its ledger rows as JSON."""
    entries = []
    for row in block.to_pylist():
        entry = json.loads(row["entry"])
        for index, data in enumerate(row["images"] or ()):
            entry["outputs"][index] |= _publish(storage, entry, index, _restore(row, data))
        entries.append({"entry": json.dumps(entry)})
    return pa.Table.from_pylist(entries, schema=PUBLISHED)


def image_path(id: str, fingerprint: str, index: int) -> str:
    """Where image `index` of a row is published: never user text, never the file of another
    fingerprint, so a redone row does not change a committed image."""
    name = hashlib.sha256(id.encode()).hexdigest()[:32]
    return f"images/{name[:2]}/{name}-{fingerprint[:8]}-{index}.png"


def _restore(row: dict[str, Any], data: bytes) -> Image.Image:
    pixels = np.frombuffer(data, np.uint8).reshape(row["height"], row["width"], 3)
    geometry = {name: tuple(value) for name, value in json.loads(row["geometry"]).items()}
    return from_canvas(pixels, Geometry(**geometry))


def _publish(
    storage: Storage, entry: dict[str, Any], index: int, image: Image.Image
) -> dict[str, Any]:
    png = encode(image)
    path = image_path(entry["id"], entry["fingerprint"], index)
    storage.publish(path, png)
    return {
        "uri": storage.uri(path),
        "sha256": sha256(png),
        "width_px": image.width,
        "height_px": image.height,
    }
