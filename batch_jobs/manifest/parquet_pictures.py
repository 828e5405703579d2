"""The images and masks that a Parquet manifest holds, of a row group together: each process reads
it once, and keeps it until it needs another one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from batch_jobs.manifest.cells import Embedded, Picture
from batch_jobs.manifest.columns import PICTURES, Chosen, canonical_names
from batch_jobs.manifest.source_versions import version_of

# (file, its version, row group, what is chosen) -> the columns `PICTURES` that this process read
# last.
_cached_group: dict[tuple[str, str, int, Chosen], pa.Table] = {}


def read_rows(
    file: str, group: int, wanted: Iterable[int], chosen: Chosen = ()
) -> Iterator[tuple[int, Embedded]]:
    """Yield (row, its pictures) of those of the `wanted` rows of a row group that are there."""
    pictures = _pictures_of(file, group, chosen)
    for row in wanted:
        if row < len(pictures):
            held = {name: pictures[name][row].as_py() for name in pictures.column_names}
            image, *others = Picture.each(held.get("image"))
            mask = Picture.of("mask", held.get("mask"))
            yield row, Embedded(image.data, mask.data, [other.data for other in others])


def _pictures_of(file: str, group: int, chosen: Chosen) -> pa.Table:
    key = (file, version_of(file), group, chosen)
    pictures = _cached_group.get(key)
    if pictures is None:
        _cached_group.clear()
        pictures = _cached_group[key] = _read_group(file, group, chosen)
    return pictures


def _read_group(file: str, group: int, chosen: Chosen) -> pa.Table:
    with fsspec.open(file, "rb") as source:
        parquet = pq.ParquetFile(source)
        if group >= parquet.num_row_groups:  # it has changed since it was planned
            return pa.table({})
        names = canonical_names(parquet.schema_arrow.names, file, chosen)
        columns = {name: column for column, name in names.items() if name in PICTURES}
        table = parquet.read_row_group(group, columns=list(columns.values()), use_threads=False)
        return table.select(list(columns.values())).rename_columns(list(columns))
