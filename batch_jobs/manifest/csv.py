"""CSV manifests: a header, then text."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import BinaryIO

from batch_jobs.manifest.columns import canonical_names, check_required
from batch_jobs.manifest.row import Row
from batch_jobs.manifest.thin import FileRows, ThinRows
from engine.errors import ManifestInvalid

MAX_CELL_CHARACTERS = 2**20  # Python's own limit, 128 KiB, is for a whole process


def read_csv(source: BinaryIO, file: str, required: Sequence[str]) -> FileRows:
    """Read a CSV with a header; every cell is text, an empty one is null.

    Raises `ManifestInvalid` naming the line.
    """
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    header = source.readline().decode("utf-8-sig")
    columns = next(csv.reader([header]), [])
    names = canonical_names(columns, file)
    check_required(names, columns, file, required)
    lines = csv.reader(io.TextIOWrapper(source, "utf-8", newline=""))
    rows = ThinRows()
    for cells in lines:
        if not cells:
            continue
        number = 1 + lines.line_num  # of its last line: a quoted cell may have several
        if len(cells) != len(columns):
            raise ManifestInvalid(
                f"{file}, line {number}: {len(cells)} cells, the header has {len(columns)}"
            )
        row = Row.of_columns(dict(zip(columns, cells, strict=True)))
        if row.data is not None or row.mask_data is not None:
            raise ManifestInvalid(
                f"{file}, line {number}: a CSV holds no images and no masks; use Parquet or JSONL"
            )
        rows.add(row, number)
    return FileRows(rows.table(), names, [column for column in columns if column not in names])
