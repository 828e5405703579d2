"""The ledger: one row for each manifest row, whatever became of it. It is the checkpoint."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batch_jobs.ledger.entry import SCHEMA
from batch_jobs.ledger.layout import RESULTS
from batch_jobs.ledger.parts import in_todays_columns, needed_columns, with_sources_in
from storage.storage import Storage

T = TypeVar("T")

PART = "part"  # the column that names the part which holds a row
READERS = 16  # threads: storage far away answers each part after a while
RACES = 5  # parts that may vanish between listing and reading, one after the other


class Ledger:
    """Reads and writes the result files of one output folder; only the driver of a job writes."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def read(self, columns: Sequence[str] | None = None, *, placed: bool = False) -> pa.Table:
        """Read every committed row, also while a job removes a part between its listing and
        reading. `placed`: with a column `PART`. Where later turns are asked for with their `turn`,
        their `source` is where it is now."""
        for _ in range(RACES):
            with suppress(FileNotFoundError):
                return self._read(columns or SCHEMA.names, placed)
        return self._read(columns or SCHEMA.names, placed)

    def _read(self, columns: Sequence[str], placed: bool) -> pa.Table:
        def read(path: str) -> pa.Table:
            rows = self._read_part(path, columns)
            return _placed(rows, path) if placed else rows

        empty = pa.schema([SCHEMA.field(name) for name in columns]).empty_table()
        parts = _each(self._parts(), read) or [_placed(empty, "") if placed else empty]
        return pa.concat_tables(parts).unify_dictionaries()

    def append(self, rows: pa.Table) -> None:
        """Commit rows with the columns of `SCHEMA`: all of them are there afterwards, or none."""
        if not len(rows):
            return
        now = datetime.now(UTC)
        at, field = SCHEMA.get_field_index("finished_at"), SCHEMA.field("finished_at")
        rows = rows.set_column(at, field, pa.repeat(pa.scalar(now, field.type), len(rows)))
        name = f"{RESULTS}/{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:12]}.parquet"
        self._storage.publish(name, _to_parquet(rows))

    def remove(self, rows: pa.Table) -> None:
        """Rewrite the parts that hold these rows (`id`, `PART`) without their ids."""
        gone = rows["id"].combine_chunks()

        def rewrite(path: str) -> None:
            table = self._read_part(path, SCHEMA.names)
            kept = table.filter(pc.invert(pc.is_in(table.column("id"), value_set=gone)))
            if len(kept) == 0:
                self._storage.remove(path)
            elif len(kept) < len(table):
                self._storage.publish(path, _to_parquet(kept))

        _each(rows[PART].unique().to_pylist(), rewrite)

    def _parts(self) -> list[str]:
        return self._storage.list(RESULTS, ".parquet")

    def _read_part(self, path: str, columns: Sequence[str]) -> pa.Table:
        file = pq.ParquetFile(pa.BufferReader(self._storage.read(path)))
        needed = needed_columns(file.schema_arrow.names, columns)
        part = in_todays_columns(file.read(columns=needed, use_threads=False), columns)
        is_told = "source" in columns and "turn" in columns
        return with_sources_in(self._storage.url, part) if is_told else part


def _each(paths: Sequence[str], call: Callable[[str], T]) -> list[T]:
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(call, paths))


def _placed(rows: pa.Table, path: str) -> pa.Table:
    return rows.append_column(PART, pa.repeat(path, len(rows)).dictionary_encode())


def _to_parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
