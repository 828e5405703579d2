"""The rows of a table with a header, as CSV and Excel have it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from batch_jobs.manifest.columns import canonical_names, check_required
from batch_jobs.manifest.reading import Reading
from batch_jobs.manifest.row import Row
from batch_jobs.manifest.thin import FileRows, ThinRows
from engine.errors import ManifestInvalid

Record = tuple[int, Sequence[Any]]  # the number of a line, and its cells


def read_table(
    header: Sequence[Any], records: Iterable[Record], file: str, reading: Reading, unit: str
) -> FileRows:
    """Read the rows below a header; every known cell is text, an empty one is null.

    `unit`: what a record is called, "line" or "row". A record of nothing but empty cells is none.
    Raises `ManifestInvalid` naming it.
    """
    columns = ["" if name is None else str(name).strip() for name in header]
    _check_unique(columns, file)
    known = [name for name in columns if name]
    names = canonical_names(known, file, reading.columns)
    check_required(names, known, file, reading.columns, reading.required)
    rows = ThinRows(carry=reading.carry)
    for number, given in records:
        try:
            cells = _cells(columns, given, names)
            if cells is None:
                continue
            row = Row.of_columns(cells, names)
            if row.data is not None or row.mask_data is not None:
                raise ManifestInvalid(
                    "a CSV or sheet holds no images and no masks; use Parquet or JSONL"
                )
        except ManifestInvalid as error:
            raise ManifestInvalid(f"{file}, {unit} {number}: {error.message}") from None
        rows.add(row, number)
    return rows.of_file(names)


def _check_unique(columns: Sequence[str], file: str) -> None:
    twice = next((name for name in columns if name and columns.count(name) > 1), None)
    if twice is not None:
        raise ManifestInvalid(f"{file} has two columns {twice}: rename one", param=twice)


def _cells(
    columns: Sequence[str], given: Sequence[Any], names: dict[str, str]
) -> dict[str, Any] | None:
    """Put the cells of a record under their columns; None where all are empty.

    Cells beyond the header, and below no name, must be empty: Excel writes such. Raises
    `ManifestInvalid`.
    """
    is_empty = [cell is None or cell == "" for cell in given]
    if all(is_empty):
        return None
    nameless = [at for at, name in enumerate(columns) if not name]
    beyond = [*nameless, *range(len(columns), len(given))]
    if len(given) < len(columns) or not all(is_empty[at] for at in beyond):
        count = len([name for name in columns if name])
        raise ManifestInvalid(f"{len(given)} cells, the header has {count}")
    pairs = zip(columns, given, strict=False)
    return {name: as_text(cell) if name in names else cell for name, cell in pairs if name}


def csv_of(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Write a CSV as Excel reads it: UTF-8 with a mark at its start."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(head)
    writer.writerows([as_text(cell) for cell in row] for row in rows)
    return text.getvalue().encode("utf-8-sig")


def as_text(cell: Any) -> str:
    """Write a cell as it stands in a CSV: Excel has numbers, dates and truth."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)
