"""The ledger: one row for each manifest row, whatever became of it. It is the checkpoint."""

from __future__ import annotations

import hashlib
import io
import json
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batch_jobs.storage.storage import Storage
from engine.config import EngineConfig
from engine.registry import ModelSpec
from engine.seeding import row_seed

T = TypeVar("T")

OUTPUT = pa.struct(
    [
        ("uri", pa.string()),
        ("sha256", pa.string()),
        ("width_px", pa.int32()),
        ("height_px", pa.int32()),
        ("seed", pa.int64()),
    ]
)
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("status", pa.string()),  # ok | error
        ("error_code", pa.string()),
        ("error_message", pa.string()),
        ("attempts", pa.int32()),
        ("instruction", pa.string()),
        ("num_inference_steps", pa.int32()),
        ("guidance_scale", pa.float64()),
        ("image_guidance_scale", pa.float64()),
        ("negative_prompt", pa.string()),
        ("scheduler", pa.string()),
        ("num_images", pa.int32()),
        ("size", pa.string()),
        ("resize", pa.string()),
        ("restore_size", pa.bool_()),
        ("seed", pa.int64()),
        ("determinism", pa.string()),
        ("model", pa.string()),
        ("model_revision", pa.string()),
        ("fingerprint", pa.string()),
        ("source", pa.string()),
        ("source_sha256", pa.string()),
        ("outputs", pa.list_(OUTPUT)),
        ("warnings", pa.list_(pa.string())),
        ("batch_size", pa.int32()),
        ("model_s", pa.float64()),
        ("finished_at", pa.timestamp("us", tz="UTC")),
    ]
)
FOLDER = "results"
PART = "part"
ROWS_AT_ONCE = 8192  # of a long manifest, as Python objects
READERS = 16  # threads: storage far away answers each part after a while
RACES = 5  # parts that may vanish between listing and reading, one after the other


def fingerprint(row: dict[str, Any], seed: int, engine: Sequence[Any]) -> str:
    """What a row's result depends on, as 32 hex digits: the same fingerprint, the same edit.

    `engine`: what is the same for all rows of a job (`engine_identity`).
    """
    parts = [row["instruction"], row["image"] or row["image_sha256"], row["options"], seed]
    if row.get("source_state") is not None:
        parts.append(row["source_state"])
    return hashlib.sha256(json.dumps([*parts, *engine]).encode()).hexdigest()[:32]


def engine_identity(spec: ModelSpec, revision: str, config: EngineConfig) -> list[Any]:
    """What of model and engine changes pixels: the whole spec, the weights, the precision."""
    return [spec.identity(), revision, config.dtype, config.device, config.determinism]


def with_fingerprints(
    plan: pa.Table,
    job_seed: int,
    engine: Sequence[Any],
    states: Sequence[str | None] | None = None,
) -> pa.Table:
    """The plan of a manifest with a column `fingerprint`. `states`: of the images, with
    `check_sources`."""
    names = ["id", "image", "image_sha256", "instruction", "options"]
    thin = plan.select(names)
    if states is not None:
        thin = thin.append_column("source_state", pa.array(states, pa.string()))
    prints = [
        fingerprint(row, row_seed(job_seed, row["id"]), engine)
        for batch in thin.to_batches(max_chunksize=ROWS_AT_ONCE)
        for row in batch.to_pylist()
    ]
    return plan.append_column("fingerprint", pa.array(prints, pa.string()))


def keys(table: pa.Table) -> pa.Array:
    """ "id/fingerprint" of each row: what is edited once."""
    return pc.binary_join_element_wise(table["id"], table["fingerprint"], "/").combine_chunks()


def is_repeated(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Of each id, whether it is there more than once."""
    counts = pc.value_counts(ids)
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    return pc.is_in(ids, value_set=twice)


def digest(plan: pa.Table) -> str:
    """What a finished job has done, whatever the order of its rows."""
    lines = keys(plan)
    hashed = hashlib.sha256()
    for line in lines.take(pc.array_sort_indices(lines)):
        hashed.update(line.as_buffer())
        hashed.update(b"\n")
    return hashed.hexdigest()


class Ledger:
    """The result files of one output folder. Only the driver of a job writes them."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def read(self, columns: Sequence[str] | None = None, *, placed: bool = False) -> pa.Table:
        """Every committed row, also while a job removes a part between its listing and reading.
        `placed`: with a column `PART`, the part that holds it."""
        for _ in range(RACES):
            with suppress(FileNotFoundError):
                return self._read(columns, placed)
        return self._read(columns, placed)

    def _read(self, columns: Sequence[str] | None, placed: bool) -> pa.Table:
        def read(path: str) -> pa.Table:
            rows = self._read_part(path, columns)
            return _placed(rows, path) if placed else rows

        schema = SCHEMA if columns is None else pa.schema([SCHEMA.field(name) for name in columns])
        empty = schema.empty_table()
        parts = _each(self._parts(), read) or [_placed(empty, "") if placed else empty]
        return pa.concat_tables(parts).unify_dictionaries()

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Commit rows: all of them are there afterwards, or none."""
        now = datetime.now(UTC)
        table = pa.Table.from_pylist([{**row, "finished_at": now} for row in rows], schema=SCHEMA)
        if len(table):
            name = f"{FOLDER}/{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:12]}.parquet"
            self._storage.publish(name, _to_parquet(table))

    def remove(self, rows: pa.Table) -> None:
        """Rewrite the parts that hold these rows (`id`, `PART`) without their ids."""
        gone = rows["id"].combine_chunks()

        def rewrite(path: str) -> None:
            table = self._read_part(path)
            kept = table.filter(pc.invert(pc.is_in(table.column("id"), value_set=gone)))
            if len(kept) == 0:
                self._storage.remove(path)
            elif len(kept) < len(table):
                self._storage.publish(path, _to_parquet(kept))

        _each(rows[PART].unique().to_pylist(), rewrite)

    def _parts(self) -> list[str]:
        return self._storage.list(FOLDER, ".parquet")

    def _read_part(self, path: str, columns: Sequence[str] | None = None) -> pa.Table:
        file = pq.ParquetFile(pa.BufferReader(self._storage.read(path)))
        return file.read(columns=list(columns) if columns else None, use_threads=False)


def _each(paths: Sequence[str], call: Callable[[str], T]) -> list[T]:
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(call, paths))


def _placed(rows: pa.Table, path: str) -> pa.Table:
    return rows.append_column(PART, pa.repeat(path, len(rows)).dictionary_encode())


def _to_parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
