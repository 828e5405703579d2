"""The rows of one file, read thin: without the images and masks that it may hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from batch_jobs.manifest.carried import Carried
from batch_jobs.manifest.planned import PLAN, options_json
from batch_jobs.manifest.row import Row

THIN = PLAN.remove(PLAN.get_field_index("file"))
ROWS_PER_CHUNK = 8192


@dataclass(frozen=True, slots=True)
class FileRows:
    """Holds what was read of a file of a manifest."""

    rows: pa.Table  # with the columns of `THIN`
    names: dict[str, str]  # column of the file -> what it means here
    carried: Sequence[str] = ()  # columns that mean nothing to an edit
    dropped: Sequence[str] = ()  # such that go no further: files, and what is too long
    notes: Sequence[str] = ()  # what is to be said of how it was read


class ThinRows:
    """Rows on their way into a table of `THIN`; images and masks are hashed and forgotten."""

    def __init__(self, *, carry: bool = True) -> None:
        self.carried = Carried(wanted=carry)
        self._chunks: list[pa.Table] = []
        self._pending: list[dict[str, Any]] = []

    def add(self, row: Row, place: int) -> None:
        """Take a row; `place`: its number in the file, or the byte at which its line starts."""
        self._pending.append(
            {
                "id": row.id,
                "image": row.image,
                "image_sha256": embedded_sha256(row.data),
                "mask": row.mask,
                "mask_sha256": embedded_sha256(row.mask_data),
                "row_group": 0,
                "row": place,
                "instruction": row.instruction,
                "options": options_json(row.options),
                "model": row.model,
                "fault": None if row.fault is None else asdict(row.fault),
                "references": thin_references(row),
                "carried": self.carried.json(row.carried),
                "chain_id": row.chain_id,
                "turn": row.turn,
            }
        )
        if len(self._pending) >= ROWS_PER_CHUNK:
            self._flush()

    def table(self) -> pa.Table:
        """Return all of them."""
        self._flush()
        return pa.concat_tables(self._chunks)

    def of_file(self, names: dict[str, str], notes: Iterable[str] = ()) -> FileRows:
        """Return all of them as the rows of a file; `names`: what its columns mean."""
        table, carried = self.table(), self.carried
        return FileRows(table, names, list(carried.columns), list(carried.dropped), list(notes))

    def _flush(self) -> None:
        self._chunks.append(pa.Table.from_pylist(self._pending, schema=THIN))
        self._pending = []


def thin_references(row: Row) -> list[dict[str, str | None]]:
    """Name the further images of a row as `PlannedReference`."""
    return [{"path": one.path, "sha256": embedded_sha256(one.data)} for one in row.references]


def image_sha256(data: bytes) -> str:
    """Digest the bytes of an image or a mask, as plans and ledgers name them."""
    return hashlib.sha256(data).hexdigest()


def embedded_sha256(data: bytes | None) -> str | None:
    """Digest what a file holds of a row, if it holds anything."""
    return None if data is None else image_sha256(data)
