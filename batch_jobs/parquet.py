"""Parquet manifests: batch by batch, the known columns only, whatever the size of a row group."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import types

from batch_jobs.columns import (
    ALIASES,
    OPTIONS,
    canonical_names,
    check_required,
    check_types,
    is_text,
)
from batch_jobs.rows import THIN, FileRows, Row, options_json, sha256
from engine.sources import read_data_url

ROWS_OF_TEXT, ROWS_OF_BYTES = 65536, 64  # read together: rows may hold 25 MiB of image each


def read_parquet(source: BinaryIO, file: str) -> FileRows:
    """Raises `ManifestInvalid` naming the column; nothing but the schema has been read then."""
    parquet = pq.ParquetFile(source)
    schema = parquet.schema_arrow
    names = canonical_names(schema.names, file)
    check_required(names, schema.names, file)
    check_types(schema, names, file)
    chunks = [THIN.empty_table()]
    for group in range(parquet.num_row_groups):
        first = 0
        for table in _batches(parquet, group, list(names)):
            columns = [names[name] for name in table.column_names]
            chunks.append(_thin(table.rename_columns(columns), group, first))
            first += len(table)
    ignored = [column for column in schema.names if column not in names]
    return FileRows(pa.concat_tables(chunks), names, ignored)


def _batches(parquet: pq.ParquetFile, group: int, columns: Sequence[str]) -> Iterator[pa.Table]:
    texts = all(is_text(f.type) for f in parquet.schema_arrow if _is_image(f.name))
    size = ROWS_OF_TEXT if texts else ROWS_OF_BYTES
    for batch in parquet.iter_batches(size, row_groups=[group], columns=list(columns)):
        yield pa.Table.from_batches([batch])


def _is_image(column: str) -> bool:
    return ALIASES.get(column, column) == "image"


def _thin(table: pa.Table, group: int, first: int) -> pa.Table:
    rows = len(table)
    paths, digests, faults = _images(table["image"])
    ids = pc.cast(table["id"], pa.string()) if "id" in table.column_names else pa.nulls(rows)
    return pa.table(
        {
            "id": ids,
            "image": paths,
            "image_sha256": digests,
            "row_group": pa.repeat(group, rows),
            "row": pa.array(range(first, first + rows)),
            "instruction": pc.cast(table["instruction"], pa.string()),
            "options": _options(table, faults),
        }
    ).cast(THIN)


def _images(column: pa.ChunkedArray) -> tuple[Any, Any, dict[int, dict[str, Any]]]:
    """(paths, sha256 of bytes, row -> options of those whose data URL is broken)."""
    column = column.combine_chunks()
    paths, data = column, pa.nulls(len(column), pa.binary())
    if types.is_struct(column.type):
        parts = {column.type.field(i).name for i in range(column.type.num_fields)}
        paths = pc.struct_field(column, "path") if "path" in parts else pa.nulls(len(column))
        data = pc.struct_field(column, "bytes") if "bytes" in parts else data
    elif not is_text(column.type.value_type if types.is_dictionary(column.type) else column.type):
        paths, data = pa.nulls(len(column)), column
    paths = pc.cast(paths, pa.string())
    if data.null_count == len(data) and not _any_data_url(paths):
        return paths, pa.nulls(len(column), pa.string()), {}
    rows = [_row_of(path, value) for path, value in zip(paths, data, strict=True)]
    digests = [None if row.data is None else sha256(row.data) for row in rows]
    faults = {index: row.options for index, row in enumerate(rows) if row.options}
    return (
        pa.array([row.image for row in rows], pa.string()),
        pa.array(digests, pa.string()),
        faults,
    )


def _any_data_url(paths: pa.Array) -> bool:
    return bool(pc.any(pc.starts_with(paths, "data:", ignore_case=True)).as_py())


def _row_of(path: pa.Scalar, data: pa.Scalar) -> Row:
    row = Row(data=data.as_py() or None)
    if row.data is None:
        row.set_image(path.as_py())
    return row


def _options(table: pa.Table, faults: dict[int, dict[str, Any]]) -> pa.Array:
    names = [name for name in table.column_names if name in OPTIONS]
    values = table.select(names).to_pylist() if names else [{} for _ in range(len(table))]
    for index, fault in faults.items():
        values[index] |= fault
    return pa.array([options_json(value) for value in values], pa.string())


def read_images(
    source: BinaryIO, group: int, wanted: Container[int]
) -> Iterator[tuple[int, bytes | None]]:
    """(row, bytes) of the `wanted` rows of a row group that holds images."""
    parquet = pq.ParquetFile(source)
    name = next(name for name in parquet.schema_arrow.names if _is_image(name))
    first = 0
    for table in _batches(parquet, group, [name]):
        for row in range(first, first + len(table)):
            if row in wanted:
                value = table[name][row - first].as_py()
                if isinstance(value, dict):
                    value = value.get("bytes") or value.get("path")
                yield row, read_data_url(value) if isinstance(value, str) else value
        first += len(table)
