"""The row groups of a Parquet manifest, read batch by batch as they fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from batch_jobs.manifest.column_types import is_list, is_text
from batch_jobs.manifest.columns import PICTURES
from engine.counted import counted
from engine.errors import ManifestInvalid

# Of images and masks in a row group: a page may be as large, so whoever reads some of them holds
# them all.
MAX_GROUP_BYTES = 2**30
BATCH_ROWS, BATCH_BYTES = 65536, 2**26  # read together at most, to plan them
REPEATED_ROWS = 256  # where nobody knows how often an image is repeated


class RowGroups:
    """The row groups of a file; `names`: what its columns mean."""

    def __init__(self, parquet: pq.ParquetFile, names: Mapping[str, str], file: str) -> None:
        self._parquet, self._file = parquet, file
        self._pictures = {column for column, name in names.items() if name in PICTURES}
        for group in range(len(self)):
            self._check(self._picture_bytes(group), self._rows(group), group)

    def __len__(self) -> int:
        return int(self._parquet.num_row_groups)

    def batches(self, group: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Read columns of a row group, as many rows at a time as fit into `BATCH_BYTES`.

        A dictionary page counts an image once that many rows repeat, and each of them holds a copy
        once it is read: then `REPEATED_ROWS` at most. Text columns have such pages too, but a path
        is short. All of it goes for masks too. Raises `ManifestInvalid` for a group that holds too
        much.

            images of the group, as Parquet counts   rows   dictionary   read at a time
            200 MiB of bytes                         1000   no           320
            1 MiB of bytes                           1000   yes          256, not 64,000
            1 MiB of paths                           1000   yes          1000
        """
        size_bytes = max(self._picture_bytes(group), 1)
        size = min(max(self._rows(group) * BATCH_BYTES // size_bytes, 1), BATCH_ROWS)
        if self._repeats_pictures(group):
            size = min(size, REPEATED_ROWS)
        rows = picture_bytes = 0
        for batch in self._parquet.iter_batches(size, row_groups=[group], columns=list(columns)):
            table = pa.Table.from_batches([batch])
            rows += len(table)
            picture_bytes += sum(table[name].nbytes for name in self._pictures)
            self._check(picture_bytes, rows, group)
            yield table

    def _rows(self, group: int) -> int:
        return int(self._parquet.metadata.row_group(group).num_rows)

    def _check(self, size_bytes: int, rows: int, group: int) -> None:
        if size_bytes > MAX_GROUP_BYTES:
            fit = max(rows * MAX_GROUP_BYTES // (8 * size_bytes), 1)
            raise ManifestInvalid(
                f"{self._file}: row group {group} holds {size_bytes >> 20:,} MiB of images and "
                f"masks in {counted(rows, 'row')}, more than {MAX_GROUP_BYTES >> 20:,} MiB: "
                f"write the file again with row_group_size={fit}",
                param="image",
            )

    def _picture_chunks(self, group: int) -> list[pq.ColumnChunkMetaData]:
        chunks = self._parquet.metadata.row_group(group)
        columns = (chunks.column(number) for number in range(chunks.num_columns))
        return [chunk for chunk in columns if _column(chunk.path_in_schema) in self._pictures]

    def _picture_bytes(self, group: int) -> int:
        """Count the bytes of a row group's images and masks, uncompressed; of equal ones one may be
        counted."""
        return sum(chunk.total_uncompressed_size for chunk in self._picture_chunks(group))

    def _repeats_pictures(self, group: int) -> bool:
        """Tell whether a row group may hold the bytes of an image or a mask once for many rows."""
        kinds = {field.name: field.type for field in self._parquet.schema_arrow}
        texts = {
            n for n, kind in kinds.items() if is_text(kind.value_type if is_list(kind) else kind)
        }
        return any(
            chunk.has_dictionary_page and _column(chunk.path_in_schema) not in texts
            for chunk in self._picture_chunks(group)
        )


def _column(path_in_schema: str) -> str:
    """Name the column that a chunk is of: "image" for "image.bytes", of a struct."""
    return path_in_schema.partition(".")[0]
