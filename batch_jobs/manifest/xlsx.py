"""Excel's workbooks as manifests: the first sheet, its first row the header."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import islice
from typing import Any, BinaryIO

from batch_jobs.manifest.reading import Reading
from batch_jobs.manifest.table import Record, read_table
from batch_jobs.manifest.thin import FileRows
from engine.errors import ManifestInvalid

_LOOKED_AT = 10  # rows of a further sheet, for whether it holds anything


def read_xlsx(source: BinaryIO, file: str, reading: Reading) -> FileRows:
    """Read the first sheet of a workbook; of a formula its value.

    Raises `ManifestInvalid` naming the row.
    """
    from openpyxl import load_workbook  # half a second, and most manifests are none

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of styles and extensions that nothing here reads
        book = load_workbook(source, read_only=True, data_only=True)
        try:
            first, *others = _visible(book.worksheets, file)
            records = _records(first)
            _, header = next(records, (1, ()))
            found = read_table(header, records, file, reading, "row")
            unread = [sheet.title for sheet in others if _holds_any(sheet)]
        finally:
            book.close()
    if not unread:
        return found
    note = f'{file}: of its sheets "{first.title}" is read, not {", ".join(unread)}'
    return FileRows(found.rows, found.names, found.carried, found.dropped, [note])


def _visible(sheets: list[Any], file: str) -> list[Any]:
    shown = [sheet for sheet in sheets if sheet.sheet_state == "visible"]
    if not shown:
        raise ManifestInvalid(f"{file} has no sheet with cells")
    return shown


def _records(sheet: Any) -> Iterator[Record]:
    """Yield the rows that hold anything, with their numbers; the first of them is the header."""
    sheet.reset_dimensions()  # what other programs write there is often wrong
    width = 0
    for number, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
        if all(cell is None for cell in cells):
            continue
        width = width or len(cells)
        yield number, [*cells, *[None] * (width - len(cells))]


def _holds_any(sheet: Any) -> bool:
    sheet.reset_dimensions()
    rows = islice(sheet.iter_rows(values_only=True), _LOOKED_AT)
    return any(cell is not None for row in rows for cell in row)
