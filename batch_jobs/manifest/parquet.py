"""Parquet manifests: to plan, the known columns only and batch by batch; to decode, the images and
masks of a whole row group, which each process reads once and keeps until it needs another one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import types

from batch_jobs.manifest.cells import Embedded, Picture
from batch_jobs.manifest.columns import (
    ALIASES,
    OPTIONS,
    PICTURES,
    PictureColumn,
    canonical_names,
    check_required,
    check_types,
    is_list,
    is_text,
)
from batch_jobs.manifest.fault import Fault
from batch_jobs.manifest.planned import options_json
from batch_jobs.manifest.row import Row
from batch_jobs.manifest.source_versions import version_of
from batch_jobs.manifest.thin import THIN, FileRows, embedded_sha256, thin_references
from batch_jobs.records import to_array
from engine.counted import counted
from engine.errors import ManifestInvalid

# Of images and masks in a row group: a page may be as large, so whoever reads some of them holds
# them all.
MAX_GROUP_BYTES = 2**30
BATCH_ROWS, BATCH_BYTES = 65536, 2**26  # read together at most, to plan them
REPEATED_ROWS = 256  # where nobody knows how often an image is repeated

# (file, its version, row group) -> the columns `PICTURES` that this process read last.
_cached_group: dict[tuple[str, str, int], pa.Table] = {}


def read_parquet(source: BinaryIO, file: str, required: Sequence[str]) -> FileRows:
    """Read the rows, neither images nor masks; raises `ManifestInvalid` naming the column."""
    parquet = pq.ParquetFile(source)
    schema = parquet.schema_arrow
    names = canonical_names(schema.names, file)
    check_required(names, schema.names, file, required)
    check_types(schema, names, file)
    for group in range(parquet.num_row_groups):
        rows = parquet.metadata.row_group(group).num_rows
        _check_group(_picture_bytes(parquet, group), rows, group, file)
    chunks = [THIN.empty_table()]
    for group in range(parquet.num_row_groups):
        first = picture_bytes = 0
        for read in _batches(parquet, group, list(names)):
            table = read.rename_columns([names[name] for name in read.column_names])
            picture_bytes += sum(
                table[name].nbytes for name in PICTURES if name in table.column_names
            )
            _check_group(picture_bytes, first + len(table), group, file)
            chunks.append(_thin(table, group, first))
            first += len(table)
    ignored = [column for column in schema.names if column not in names]
    return FileRows(pa.concat_tables(chunks), names, ignored)


def _check_group(size_bytes: int, rows: int, group: int, file: str) -> None:
    if size_bytes > MAX_GROUP_BYTES:
        raise ManifestInvalid(
            f"{file}: row group {group} holds {size_bytes >> 20:,} MiB of images and masks in "
            f"{counted(rows, 'row')}, more than {MAX_GROUP_BYTES >> 20:,} MiB: write the file "
            f"again with row_group_size={max(rows * MAX_GROUP_BYTES // (8 * size_bytes), 1)}",
            param="image",
        )


def _picture_chunks(parquet: pq.ParquetFile, group: int) -> list[pq.ColumnChunkMetaData]:
    chunks = parquet.metadata.row_group(group)
    columns = (chunks.column(number) for number in range(chunks.num_columns))
    return [column for column in columns if _meaning(column.path_in_schema) in PICTURES]


def _picture_bytes(parquet: pq.ParquetFile, group: int) -> int:
    """Count the bytes of a row group's images and masks, uncompressed; of equal ones one may be
    counted."""
    return sum(chunk.total_uncompressed_size for chunk in _picture_chunks(parquet, group))


def _batches(parquet: pq.ParquetFile, group: int, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Read the columns of a row group, as many rows at a time as fit into `BATCH_BYTES`.

    A dictionary page counts an image once that many rows repeat, and each of them holds a copy
    once it is read: then `REPEATED_ROWS` at most. Text columns have such pages too, but a path is
    short. All of it goes for masks too.

        images of the group, as Parquet counts   rows   dictionary   read at a time
        200 MiB of bytes                         1000   no           320
        1 MiB of bytes                           1000   yes          256, not 64,000
        1 MiB of paths                           1000   yes          1000
    """
    rows = parquet.metadata.row_group(group).num_rows
    size = min(max(rows * BATCH_BYTES // max(_picture_bytes(parquet, group), 1), 1), BATCH_ROWS)
    if _repeats_pictures(parquet, group):
        size = min(size, REPEATED_ROWS)
    for batch in parquet.iter_batches(size, row_groups=[group], columns=list(columns)):
        yield pa.Table.from_batches([batch])


def _repeats_pictures(parquet: pq.ParquetFile, group: int) -> bool:
    """Tell whether a row group may hold the bytes of an image or a mask once for many rows."""
    kinds = {field.name: field.type for field in parquet.schema_arrow}
    texts = {n for n, kind in kinds.items() if is_text(kind.value_type if is_list(kind) else kind)}
    return any(
        chunk.has_dictionary_page and _column(chunk.path_in_schema) not in texts
        for chunk in _picture_chunks(parquet, group)
    )


def _column(path_in_schema: str) -> str:
    """Name the column that a chunk is of: "image" for "image.bytes", of a struct."""
    return path_in_schema.partition(".")[0]


def _meaning(path_in_schema: str) -> str:
    column = _column(path_in_schema)
    return ALIASES.get(column, column)


def _thin(table: pa.Table, group: int, first: int) -> pa.Table:
    rows = len(table)
    images, references = _images(table)
    masks = _pictures(table, "mask")
    faults = [one or other for one, other in zip(images.faults, masks.faults, strict=True)]
    given = {name: table[name] for name in ("id", "instruction") if name in table.column_names}
    thin = pa.table(
        {
            "id": given.get("id", pa.nulls(rows)),
            "image": images.paths,
            "image_sha256": images.digests,
            "mask": masks.paths,
            "mask_sha256": masks.digests,
            "row_group": pa.repeat(group, rows),
            "row": pa.array(range(first, first + rows)),
            "instruction": given.get("instruction", pa.nulls(rows)),
            "options": _options(table),
            "model": pa.nulls(rows),
            "fault": to_array(Fault, faults),
            "references": references,
        }
    ).cast(THIN)
    thin.validate(full=True)  # text of another writer may not be UTF-8
    return thin


class _Pictures(NamedTuple):
    """Hold a column of images or masks, thin: what names them, what they are where it holds them,
    and why one cannot be read, as a broken data URL."""

    paths: pa.Array
    digests: pa.Array
    faults: list[Fault | None]


def _images(table: pa.Table) -> tuple[_Pictures, pa.Array]:
    """Read the column of images, and of those that are lists what follows the first one."""
    column, kind = table["image"], THIN.field("references").type
    if not is_list(column.type):
        return _pictures(table, "image"), pa.array([[]] * len(table), kind)
    rows, references = [], []
    for cell in column:
        row = Row()
        row.set_image(cell.as_py())
        rows.append((row.image, embedded_sha256(row.data), row.fault))
        references.append(thin_references(row))
    paths, digests, faults = zip(*rows, strict=True) if rows else ((), (), ())
    firsts = _Pictures(pa.array(paths, pa.string()), pa.array(digests, pa.string()), list(faults))
    return firsts, pa.array(references, kind)


def _pictures(table: pa.Table, name: PictureColumn) -> _Pictures:
    rows, no_text = len(table), pa.nulls(len(table), pa.string())
    if name not in table.column_names:
        return _Pictures(no_text, no_text, [None] * rows)
    column = table[name].combine_chunks()
    paths, data = column, pa.nulls(rows, pa.binary())
    if types.is_struct(column.type):
        parts = {column.type.field(i).name for i in range(column.type.num_fields)}
        paths = pc.struct_field(column, "path") if "path" in parts else no_text
        data = pc.struct_field(column, "bytes") if "bytes" in parts else data
    elif not is_text(column.type.value_type if types.is_dictionary(column.type) else column.type):
        paths, data = no_text, column
    paths = pc.cast(paths, pa.string())
    if data.null_count == rows and not _any_data_url(paths):
        return _Pictures(paths, no_text, [None] * rows)
    thin = [_thin_cell(name, *cell) for cell in zip(paths, data, strict=True)]
    paths, digests, faults = zip(*thin, strict=True)
    return _Pictures(pa.array(paths, pa.string()), pa.array(digests, pa.string()), list(faults))


def _thin_cell(
    name: PictureColumn, path: pa.Scalar, data: pa.Scalar
) -> tuple[str | None, str | None, Fault | None]:
    cell = Picture.of(name, {"bytes": data.as_py(), "path": path.as_py()})
    fault = None if cell.error is None else Fault.of(cell.error)
    return cell.path, embedded_sha256(cell.data), fault


def _any_data_url(paths: pa.Array) -> bool:
    return bool(pc.any(pc.starts_with(paths, "data:", ignore_case=True)).as_py())


def _options(table: pa.Table) -> pa.Array:
    names = [name for name in table.column_names if name in OPTIONS]
    values = table.select(names).to_pylist() if names else [{} for _ in range(len(table))]
    return pa.array([options_json(value) for value in values], pa.string())


def read_rows(file: str, group: int, wanted: Iterable[int]) -> Iterator[tuple[int, Embedded]]:
    """Yield (row, its pictures) of those of the `wanted` rows of a row group that are there."""
    pictures = _pictures_of(file, group)
    for row in wanted:
        if row < len(pictures):
            held = {name: pictures[name][row].as_py() for name in pictures.column_names}
            image, *others = Picture.each(held.get("image"))
            mask = Picture.of("mask", held.get("mask"))
            yield row, Embedded(image.data, mask.data, [other.data for other in others])


def _pictures_of(file: str, group: int) -> pa.Table:
    key = (file, version_of(file), group)
    pictures = _cached_group.get(key)
    if pictures is None:
        _cached_group.clear()
        pictures = _cached_group[key] = _read_group(file, group)
    return pictures


def _read_group(file: str, group: int) -> pa.Table:
    with fsspec.open(file, "rb") as source:
        parquet = pq.ParquetFile(source)
        if group >= parquet.num_row_groups:  # it has changed since it was planned
            return pa.table({})
        columns = {ALIASES.get(name, name): name for name in parquet.schema_arrow.names}
        columns = {name: columns[name] for name in PICTURES if name in columns}
        table = parquet.read_row_group(group, columns=list(columns.values()), use_threads=False)
        return table.select(list(columns.values())).rename_columns(list(columns))
