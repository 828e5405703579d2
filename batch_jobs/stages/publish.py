"""The third stage: edited images -> finished and published files, and thin ledger rows.

The images never reach the driver.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import pyarrow as pa
from PIL import Image

from batch_jobs.ledger.entry import Entry, Output, to_ledger
from batch_jobs.ledger.layout import image_path, mask_path, source_path
from batch_jobs.records import from_table
from batch_jobs.stages.edit import EditedRow
from engine.finishing import Finished
from engine.geometry import from_canvas
from engine.images import encode
from engine.masks import encode_mask
from engine.results import finished_images
from engine.wire import OutputFormat
from storage.storage import Storage


def publish_rows(
    block: pa.Table,
    storage: Storage,
    format: OutputFormat = "png",
    quality: int | None = None,
    metadata: bool = True,
) -> pa.Table:
    """Finish, encode and publish the images of a table of `EditedRow`; returns its ledger rows.

    `quality`: 0-100 for JPEG and WebP (default 95); `metadata`: a PNG says what makes it again.
    """
    files = Files(storage, format, quality, metadata)
    rows = from_table(EditedRow, block)
    for row in rows:
        if row.result is not None and row.finishing is not None:
            finished = finished_images(row.result, row.finishing)
            for index, (made, seed) in enumerate(zip(finished, row.result.seeds, strict=True)):
                output = files.publish(row.entry, index, made, seed)
                if row.looks:
                    look = row.looks[index]
                    output = replace(output, source_look=row.source_look, look=look)
                if row.source is not None:
                    source = from_canvas(row.source, row.finishing.geometry)
                    output = replace(output, source_uri=files.publish_source(row.entry, source))
                row.entry.outputs.append(output)
                row.entry.warnings += [w for w in made.warnings if w not in row.entry.warnings]
    return to_ledger(row.entry for row in rows)


@dataclass(frozen=True, slots=True)
class Files:
    """Writes the files of a job."""

    storage: Storage
    format: OutputFormat  # of the pictures; masks are PNG
    quality: int | None
    metadata: bool

    def publish(self, entry: Entry, index: int, made: Finished, seed: int) -> Output:
        """Encode and publish image `index` of a row, and its mask where there is one."""
        storage = self.storage
        command = made.command if self.metadata else ""
        data = encode(made.picture, self.format, self.quality, command)
        path = image_path(entry.id, entry.fingerprint, index, self.format)
        storage.publish(path, data)
        mask_uri = None
        if made.edited is not None:
            mask = mask_path(entry.id, entry.fingerprint, index)
            storage.publish(mask, encode_mask(made.edited))
            mask_uri = storage.uri(mask)
        width, height = made.size
        digest = hashlib.sha256(data).hexdigest()
        return Output(storage.uri(path), digest, width, height, seed, made.report, mask_uri)

    def publish_source(self, entry: Entry, image: Image.Image) -> str:
        """Encode and publish the source of a pair; returns its URI. Where it was painted, it is the
        row's source from now on."""
        path = source_path(entry.id, entry.fingerprint, self.format)
        data, uri = encode(image, self.format, self.quality), self.storage.uri(path)
        self.storage.publish(path, data)
        if entry.source_sha256 is None:
            entry.source, entry.source_sha256 = uri, hashlib.sha256(data).hexdigest()
        return uri
