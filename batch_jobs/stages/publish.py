"""The third stage: edited images -> published files and thin ledger rows.

The images never reach the driver.
"""

from __future__ import annotations

import hashlib

import pyarrow as pa
from PIL import Image

from batch_jobs.ledger.entry import Entry, Output, to_ledger
from batch_jobs.ledger.layout import image_path
from batch_jobs.records import from_table
from batch_jobs.stages.edit import EditedRow
from engine.geometry import from_canvas
from engine.images import encode
from storage.storage import Storage


def publish_rows(block: pa.Table, storage: Storage) -> pa.Table:
    """Encode and publish the images of a table of `EditedRow`; returns its ledger rows."""
    rows = from_table(EditedRow, block)
    for row in rows:
        if row.result is not None and row.geometry is not None:
            images = zip(row.result.images, row.result.seeds, strict=True)
            for index, (pixels, seed) in enumerate(images):
                image = from_canvas(pixels, row.geometry)
                row.entry.outputs.append(_publish(storage, row.entry, index, image, seed))
    return to_ledger(row.entry for row in rows)


def _publish(storage: Storage, entry: Entry, index: int, image: Image.Image, seed: int) -> Output:
    png = encode(image)
    path = image_path(entry.id, entry.fingerprint, index)
    storage.publish(path, png)
    digest = hashlib.sha256(png).hexdigest()
    return Output(storage.uri(path), digest, image.width, image.height, seed)
