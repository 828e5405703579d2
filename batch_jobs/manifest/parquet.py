"""Parquet manifests: their rows, without the images and masks that they hold."""

from __future__ import annotations

from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import types

from batch_jobs.manifest.carried import Carried
from batch_jobs.manifest.cells import Picture
from batch_jobs.manifest.chains import turn_of
from batch_jobs.manifest.column_types import check_types, holds_files, is_list, is_text
from batch_jobs.manifest.columns import OPTIONS, PictureColumn, canonical_names, check_required
from batch_jobs.manifest.fault import Fault
from batch_jobs.manifest.parquet_groups import RowGroups
from batch_jobs.manifest.planned import options_json
from batch_jobs.manifest.reading import Reading
from batch_jobs.manifest.row import Row
from batch_jobs.manifest.thin import THIN, FileRows, embedded_sha256, thin_references
from batch_jobs.records import to_array
from engine.errors import ManifestInvalid

_CARRIED = "\0"  # before the name of a column that is carried: it may be that of another's meaning


def read_parquet(source: BinaryIO, file: str, reading: Reading) -> FileRows:
    """Read the rows, neither images nor masks; raises `ManifestInvalid` naming the column."""
    parquet = pq.ParquetFile(source)
    schema = parquet.schema_arrow
    names = canonical_names(schema.names, file, reading.columns)
    check_required(names, schema.names, file, reading.columns, reading.required)
    check_types(schema, names, file)
    others = [field.name for field in schema if field.name not in names]
    files = [name for name in others if holds_files(schema.field(name).type)]
    carried = Carried(wanted=reading.carry)
    columns = [*names, *(name for name in others if name not in files)]
    groups = RowGroups(parquet, names, file)
    chunks = [THIN.empty_table()]
    for group in range(len(groups)):
        first = 0
        for table in groups.batches(group, columns):
            _check_text(table, file, group, first)
            renamed = [names.get(name, _CARRIED + name) for name in table.column_names]
            try:
                chunks.append(_thin(table.rename_columns(renamed), carried, group, first))
            except ManifestInvalid as error:
                raise ManifestInvalid(f"{file}: {error.message}", param=error.param) from None
            first += len(table)
    dropped = [*files, *carried.dropped]
    return FileRows(pa.concat_tables(chunks), names, list(carried.columns), dropped)


def _check_text(table: pa.Table, file: str, group: int, first: int) -> None:
    """Raises `ManifestInvalid` for text that is not UTF-8, as another writer may have left it."""
    for name in table.column_names:
        try:
            table[name].validate(full=True)
        except pa.ArrowInvalid:
            row = first + next(at for at, cell in enumerate(table[name]) if not _is_text(cell))
            raise ManifestInvalid(
                f'{file}, row group {group}, row {row}: column "{name}" is not UTF-8',
                param=name,
            ) from None


def _is_text(cell: pa.Scalar) -> bool:
    try:
        cell.as_py()
    except UnicodeDecodeError:
        return False
    return True


def _thin(table: pa.Table, carried: Carried, group: int, first: int) -> pa.Table:
    rows = len(table)
    images, references = _images(table)
    masks = _pictures(table, "mask")
    faults = [one or other for one, other in zip(images.faults, masks.faults, strict=True)]
    return pa.table(
        {
            "id": _texts(table, "id"),
            "image": images.paths,
            "image_sha256": images.digests,
            "mask": masks.paths,
            "mask_sha256": masks.digests,
            "row_group": pa.repeat(group, rows),
            "row": pa.array(range(first, first + rows)),
            "instruction": _instructions(table),
            "options": _options(table),
            "model": pa.nulls(rows),
            "fault": to_array(Fault, faults),
            "references": references,
            "carried": _carried(table, carried),
            "chain_id": _texts(table, "chain_id"),
            "turn": _turns(table),
        }
    ).cast(THIN)


def _texts(table: pa.Table, name: str) -> pa.ChunkedArray:
    """Read ids, of rows or of chains; an empty one is none, as in every format."""
    if name not in table.column_names:
        return pa.nulls(len(table), pa.string())
    ids = pc.cast(table[name], pa.string())
    return pc.if_else(pc.equal(ids, ""), pa.scalar(None, pa.string()), ids)


def _turns(table: pa.Table) -> pa.Array:
    """Read the numbers of turns; raises `ManifestInvalid`."""
    if "turn" not in table.column_names:
        return pa.nulls(len(table), pa.int64())
    return pa.array([turn_of(cell) for cell in table["turn"].to_pylist()], pa.int64())


def _instructions(table: pa.Table) -> pa.ChunkedArray:
    """Read the instructions; of a list the last one. With a style there may be none."""
    if "instruction" not in table.column_names:
        return pa.nulls(len(table), pa.string())
    column = table["instruction"]
    if not is_list(column.type):
        return pc.cast(column, pa.string())
    return pa.array([cell[-1] if cell else None for cell in column.to_pylist()], pa.string())


def _carried(table: pa.Table, carried: Carried) -> pa.Array:
    names = [name for name in table.column_names if name.startswith(_CARRIED)]
    if not names:
        return pa.nulls(len(table), pa.string())
    others = pa.table({name[len(_CARRIED) :]: _without_dates(table[name]) for name in names})
    return pa.array([carried.json(cells) for cells in others.to_pylist()], pa.string())


def _without_dates(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Write dates and times as text: Python cannot hold all of Arrow's."""
    if types.is_duration(column.type):
        return pc.cast(column, pa.int64())
    is_date = types.is_temporal(column.type) and not types.is_interval(column.type)
    return pc.cast(column, pa.string()) if is_date else column


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


class _Pictures(NamedTuple):
    """Hold a column of images or masks, thin: what names them, what they are where it holds them,
    and why one cannot be read, as a broken data URL."""

    paths: pa.Array
    digests: pa.Array
    faults: list[Fault | None]


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
