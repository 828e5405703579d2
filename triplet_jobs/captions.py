"""Captions: the rows that a factory starts from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.export.pairs import CAPTIONS
from batch_jobs.manifest.carried import carried_values
from batch_jobs.manifest.plan import read_manifest
from batch_jobs.manifest.reading import Reading
from engine.errors import ManifestInvalid

KIND = "kind"  # the column that names a kind of edit
CAPTION, EDITED_CAPTION = "original_prompt", "edited_prompt"  # those that carry captions
_ROWS_AT_ONCE = 8192


@dataclass(frozen=True, slots=True)
class Caption:
    """Holds a row: a photograph, and what is said of it."""

    row: dict[str, Any]  # of `PLAN`
    text: str | None  # what the photograph shows
    edited_text: str | None  # and what it is to show, where that is given
    kind: str | None  # of edit, where one is asked for
    carried: dict[str, Any]  # its other columns

    @property
    def id(self) -> str:
        """Return the row's id."""
        return str(self.row["id"])

    @property
    def instruction(self) -> str | None:
        """Return the instruction where it is given: then nothing is rewritten."""
        return self.row["instruction"] or None


def read_captions(location: str, reading: Reading, needs: tuple[str, ...] = ("image",)) -> pa.Table:
    """Read the rows of a manifest, with the columns of `PLAN`, or the pictures of a folder.

    `needs`: the columns that it must have.

    Raises `ManifestInvalid`, also for turns, which edit no photograph.
    """
    rows = read_manifest(location, replace(reading, needs=needs, carry=True))
    if pc.any(pc.is_valid(rows["turn"])).as_py():
        raise ManifestInvalid(
            f"{location}: a pair begins at a photograph, not at a turn of a chain: leave out turn",
            param="turn",
        )
    return rows


def captions_of(rows: pa.Table, caption_column: str | None = None) -> Iterator[Caption]:
    """Yield the captions of such rows; raises `ManifestInvalid` where no row has the column."""
    found = caption_column is None
    for batch in rows.to_batches(max_chunksize=_ROWS_AT_ONCE):
        for row in batch.to_pylist():
            carried = carried_values(row["carried"])
            found = found or caption_column in carried
            text = _take(carried, (caption_column,) if caption_column else CAPTIONS["caption"])
            edited_text = _take(carried, CAPTIONS["edited_caption"])
            yield Caption(row, text, edited_text, _take(carried, (KIND,)), carried)
    if not found:
        raise ManifestInvalid(
            f'no row has a column "{caption_column}" (--caption-column)', param="caption"
        )


def _take(carried: dict[str, Any], names: Sequence[str]) -> str | None:
    """Take the first of these out of what was carried."""
    name = next((name for name in names if name in carried), None)
    return None if name is None else str(carried.pop(name))
