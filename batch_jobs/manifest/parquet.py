"""Parquet manifests: to plan, the known columns only and batch by batch; to decode, the images of
a whole row group, which each process reads once and keeps until it needs those of another one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import types

from batch_jobs.manifest.columns import (
    ALIASES,
    OPTIONS,
    canonical_names,
    check_required,
    check_types,
    is_text,
)
from batch_jobs.manifest.fault import Fault
from batch_jobs.manifest.planned import options_json
from batch_jobs.manifest.row import Row
from batch_jobs.manifest.source_versions import version_of
from batch_jobs.manifest.thin import THIN, FileRows, image_sha256
from batch_jobs.records import to_array
from engine.errors import ManifestInvalid
from engine.sources import read_data_url

# Of images in a row group: a page may be as large, so whoever reads some of them holds them all.
MAX_GROUP_BYTES = 2**30
BATCH_ROWS, BATCH_BYTES = 65536, 2**26  # read together at most, to plan them
REPEATED_ROWS = 256  # where nobody knows how often an image is repeated

# (file, its version, row group) -> the images that this process read last.
_cached_group: dict[tuple[str, str, int], pa.ChunkedArray] = {}


def read_parquet(source: BinaryIO, file: str) -> FileRows:
    """Read the rows, not the images; raises `ManifestInvalid` naming the column."""
    parquet = pq.ParquetFile(source)
    schema = parquet.schema_arrow
    names = canonical_names(schema.names, file)
    check_required(names, schema.names, file)
    check_types(schema, names, file)
    for group in range(parquet.num_row_groups):
        rows = parquet.metadata.row_group(group).num_rows
        _check_group(_image_bytes(parquet, group), rows, group, file)
    chunks = [THIN.empty_table()]
    for group in range(parquet.num_row_groups):
        first = image_bytes = 0
        for read in _batches(parquet, group, list(names)):
            table = read.rename_columns([names[name] for name in read.column_names])
            image_bytes += table["image"].nbytes
            _check_group(image_bytes, first + len(table), group, file)
            chunks.append(_thin(table, group, first))
            first += len(table)
    ignored = [column for column in schema.names if column not in names]
    return FileRows(pa.concat_tables(chunks), names, ignored)


def _check_group(size_bytes: int, rows: int, group: int, file: str) -> None:
    if size_bytes > MAX_GROUP_BYTES:
        raise ManifestInvalid(
            f"{file}: row group {group} holds {size_bytes >> 20:,} MiB of images in {rows:,} "
            f"rows, more than {MAX_GROUP_BYTES >> 20:,} MiB: write the file again with "
            f"row_group_size={max(rows * MAX_GROUP_BYTES // (8 * size_bytes), 1)}",
            param="image",
        )


def _image_chunks(parquet: pq.ParquetFile, group: int) -> list[pq.ColumnChunkMetaData]:
    chunks = parquet.metadata.row_group(group)
    columns = (chunks.column(number) for number in range(chunks.num_columns))
    return [column for column in columns if _is_image(column.path_in_schema)]


def _image_bytes(parquet: pq.ParquetFile, group: int) -> int:
    """Count the bytes of a row group's images, uncompressed; equal ones may be counted once."""
    return sum(chunk.total_uncompressed_size for chunk in _image_chunks(parquet, group))


def _batches(parquet: pq.ParquetFile, group: int, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Read the columns of a row group, as many rows at a time as fit into `BATCH_BYTES`.

    A dictionary page counts an image once that many rows repeat, and each of them holds a copy
    once it is read: then `REPEATED_ROWS` at most. Text columns have such pages too, but a path is
    short.

        images of the group, as Parquet counts   rows   dictionary   read at a time
        200 MiB of bytes                         1000   no           320
        1 MiB of bytes                           1000   yes          256, not 64,000
        1 MiB of paths                           1000   yes          1000
    """
    rows = parquet.metadata.row_group(group).num_rows
    size = min(max(rows * BATCH_BYTES // max(_image_bytes(parquet, group), 1), 1), BATCH_ROWS)
    if _repeats_images(parquet, group):
        size = min(size, REPEATED_ROWS)
    for batch in parquet.iter_batches(size, row_groups=[group], columns=list(columns)):
        yield pa.Table.from_batches([batch])


def _repeats_images(parquet: pq.ParquetFile, group: int) -> bool:
    """Tell whether a row group may hold the bytes of an image once for many rows."""
    if not any(chunk.has_dictionary_page for chunk in _image_chunks(parquet, group)):
        return False
    return not any(is_text(field.type) for field in parquet.schema_arrow if _is_image(field.name))


def _is_image(column: str) -> bool:
    column = column.partition(".")[0]  # of a struct, "image.bytes"
    return ALIASES.get(column, column) == "image"


def _thin(table: pa.Table, group: int, first: int) -> pa.Table:
    rows = len(table)
    paths, digests, faults = _images(table["image"])
    ids = pc.cast(table["id"], pa.string()) if "id" in table.column_names else pa.nulls(rows)
    thin = pa.table(
        {
            "id": ids,
            "image": paths,
            "image_sha256": digests,
            "row_group": pa.repeat(group, rows),
            "row": pa.array(range(first, first + rows)),
            "instruction": pc.cast(table["instruction"], pa.string()),
            "options": _options(table),
            "model": pa.nulls(rows),
            "fault": to_array(Fault, faults),
        }
    ).cast(THIN)
    thin.validate(full=True)  # text of another writer may not be UTF-8
    return thin


def _images(column: pa.ChunkedArray) -> tuple[Any, Any, list[Fault | None]]:
    """Return (paths, sha256 of bytes, why the image is none: a data URL may be broken)."""
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
        return paths, pa.nulls(len(column), pa.string()), [None] * len(column)
    rows = [_row_of(path, value) for path, value in zip(paths, data, strict=True)]
    digests = [None if row.data is None else image_sha256(row.data) for row in rows]
    return (
        pa.array([row.image for row in rows], pa.string()),
        pa.array(digests, pa.string()),
        [row.fault for row in rows],
    )


def _any_data_url(paths: pa.Array) -> bool:
    return bool(pc.any(pc.starts_with(paths, "data:", ignore_case=True)).as_py())


def _row_of(path: pa.Scalar, data: pa.Scalar) -> Row:
    row = Row(data=data.as_py() or None)
    if row.data is None:
        row.set_image(path.as_py())
    return row


def _options(table: pa.Table) -> pa.Array:
    names = [name for name in table.column_names if name in OPTIONS]
    values = table.select(names).to_pylist() if names else [{} for _ in range(len(table))]
    return pa.array([options_json(value) for value in values], pa.string())


def read_images(file: str, group: int, wanted: Iterable[int]) -> Iterator[tuple[int, bytes | None]]:
    """Yield (row, bytes) of those of the `wanted` rows of a row group that are there."""
    images = _images_of(file, group)
    for row in wanted:
        if row < len(images):
            value = images[row].as_py()
            if isinstance(value, dict):
                value = value.get("bytes") or value.get("path")
            yield row, read_data_url(value) if isinstance(value, str) else value


def _images_of(file: str, group: int) -> pa.ChunkedArray:
    key = (file, version_of(file), group)
    images = _cached_group.get(key)
    if images is None:
        _cached_group.clear()
        images = _cached_group[key] = _read_group(file, group)
    return images


def _read_group(file: str, group: int) -> pa.ChunkedArray:
    with fsspec.open(file, "rb") as source:
        parquet = pq.ParquetFile(source)
        name = next((name for name in parquet.schema_arrow.names if _is_image(name)), None)
        if name is None or group >= parquet.num_row_groups:  # it has changed since it was planned
            return pa.chunked_array([], pa.null())
        return parquet.read_row_group(group, columns=[name], use_threads=False)[name]
