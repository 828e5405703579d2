"""The first stage: planned rows -> requests at model size, or the reason why there is none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
from PIL import Image

from batch_jobs.ledger.entry import Entry
from batch_jobs.manifest.cells import NO_IMAGE, Embedded
from batch_jobs.manifest.columns import PictureColumn
from batch_jobs.manifest.embedded import read_embedded
from batch_jobs.manifest.planned import PlannedReference, PlannedRow
from batch_jobs.manifest.thin import image_sha256
from batch_jobs.records import from_table, to_table
from batch_jobs.stages.context import BlockContext
from batch_jobs.stages.crash_journal import DEATHS_TO_CONVICT, Journal
from engine.edit import EditFailure
from engine.errors import ImageError, ImageMissing, ImageNotFound, WorkerCrashed
from engine.images import encode
from engine.pool import DecodePool, TaskLost
from engine.seeding import row_seed
from engine.sources import Prepared, Source, naming_image, prepare
from engine.text import clean_instruction
from engine.wire import check_background
from storage.retrying import retrying
from storage.sources import read_source

logger = logging.getLogger(__name__)

ROW_S = 60.0  # processor time of one decoder: 50 megapixels take half a second


@dataclass(frozen=True, slots=True)
class DecodedRow:
    """Carries a row from the first stage to the second."""

    entry: Entry
    prepared: Prepared | None = None  # None where the row has failed, which the entry tells


def decode_block(block: pa.Table, context: BlockContext, journal: Journal) -> pa.Table:
    """Decode a block in this process; or, where one died on it, each image in a process of its own,
    so that an image that kills its decoder costs its own row alone."""
    entries = journal.block(["decode", *block["id"].to_pylist()])
    if entries.suspected:
        decoded = _decode_apart(block, context)
    else:
        entries.open()
        decoded = decode_rows(block, context)
    entries.forget()
    return decoded


def _decode_apart(block: pa.Table, context: BlockContext) -> pa.Table:
    pool = DecodePool(1)

    def prepare_apart(*arguments: Any) -> Prepared:
        lost: list[TaskLost] = []
        while len(lost) < DEATHS_TO_CONVICT:
            try:
                return pool.submit(ROW_S, prepare, *arguments).result()
            except TaskLost as error:
                lost.append(error)
        raise WorkerCrashed(f"{len(lost)} processes ended on this image alone ({lost[-1].kind})")

    try:
        return decode_rows(block, context, prepare_apart)
    finally:
        pool.close()


def decode_rows(
    block: pa.Table, context: BlockContext, prepare: Callable[..., Prepared] = prepare
) -> pa.Table:
    """Make a table of `DecodedRow` from one of `PlannedRow`; raises nothing for a row.

    `prepare`: `engine.sources.prepare`, here or elsewhere.
    """
    rows = from_table(PlannedRow, block)
    pictures = _BlockPictures(rows, context)
    decoded = []
    for position, row in enumerate(rows):
        entry = Entry.of(row)
        try:
            asked = row.edit_options(context.spec)
            seed = row_seed(context.job_seed, row.id, context.same_seed)
            entry.options = context.spec.resolve(asked, seed)
            check_background(entry.options, context.output_format)
            instruction = clean_instruction(row.instruction or "")
            context.spec.check_sources(1 + len(row.references))
            data, *others = pictures.images(position)
            is_source = data and context.spec.max_sources
            entry.source_sha256 = image_sha256(data) if is_source else None
            source = Source(data, pictures.mask(position), tuple(others))
            edit = (source, instruction, entry.options, context.spec, context.accept)
            prepared = prepare(row.id, *edit)
        except Exception as error:  # whatever is wrong with a row stays with the row
            entry.fail(EditFailure.of(row.id, error))
            decoded.append(DecodedRow(entry))
        else:
            entry.warnings += prepared.warnings
            decoded.append(DecodedRow(entry, prepared))
    return to_table(DecodedRow, decoded)


class _BlockPictures:
    """Reads the images and masks of the rows of a block; those that the manifest holds itself all
    at once, as a row group of Parquet is."""

    def __init__(self, rows: Sequence[PlannedRow], context: BlockContext) -> None:
        self._rows = rows
        self._context = context
        self._embedded: dict[int, Embedded] = {}
        self._error: Exception | None = None  # why the manifest cannot be read again
        places = [row.held_place for row in rows]
        try:
            self._embedded = retrying(lambda: dict(read_embedded(places, context.reading)))
        except Exception as error:  # storage clients and parsers raise dozens of kinds
            logger.warning("the manifest cannot be read again: %s", error)
            self._error = error

    def images(self, position: int) -> Iterator[bytes]:
        """Read the images of a row, the source first: a blank canvas, where the model paints.

        Raises `ImageMissing` where it has none.
        """
        if not self._context.spec.max_sources:
            yield _blank(self._context.spec.resolution)
            return
        row, embedded = self._rows[position], self._embedded.get(position, Embedded())
        asked = [PlannedReference(row.image, row.image_sha256), *row.references]
        held = [embedded.image, *embedded.references, *[None] * len(asked)]
        for number, (image, data) in enumerate(zip(asked, held, strict=False), start=1):
            with naming_image(number, len(asked)):
                if number == 1 and row.turn is not None and row.turn > 1:
                    yield self._own(row)
                elif image.path is not None:
                    yield self._named(image.path)
                else:
                    held_image = self._checked(position, "image", data, image.sha256)
                    if held_image is None:
                        raise ImageMissing(NO_IMAGE)
                    yield held_image

    def mask(self, position: int) -> bytes | None:
        """Read the mask of a row; None where all of the image may be edited."""
        row = self._rows[position]
        if row.mask is None:
            held = self._embedded.get(position, Embedded())
            return self._checked(position, "mask", held.mask, row.mask_sha256)
        try:
            return self._named(row.mask)
        except ImageError as error:
            raise type(error)(f"mask: {error.message}", param="mask") from None

    def _named(self, source: str) -> bytes:
        context = self._context
        return retrying(lambda: read_source(source, context.base, context.image_root))

    def _own(self, row: PlannedRow) -> bytes:
        """Read the picture of the turn before: in the output, which no fence is around."""
        picture = row.image or ""
        return retrying(lambda: read_source(picture, self._context.base))

    def _checked(
        self, position: int, name: PictureColumn, data: bytes | None, sha256: str | None
    ) -> bytes | None:
        """Return what the manifest holds if it is what it held when it was planned."""
        if sha256 is None:
            return None
        if self._error is not None:
            raise self._error
        if data is None or image_sha256(data) != sha256:
            raise ImageNotFound(
                f"{self._rows[position].file} has changed since the job read it: the {name} of "
                "this row is no longer in its place; run the job again",
                param=name,
            )
        return data


@lru_cache(maxsize=1)
def _blank(side_px: int) -> bytes:
    """Encode a grey square: neither dark nor small, so nothing is wrong with it."""
    return encode(Image.new("RGB", (side_px, side_px), "grey"), "png")
