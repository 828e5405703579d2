"""A table as an Excel workbook, every cell what it is and no formula."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.utils import get_column_letter

from engine.errors import OutputUnusable

MAX_ROWS = 1_048_576  # of a sheet: Excel specifications and limits (support.microsoft.com)
MAX_CHARACTERS = 32_767  # of a cell
_WIDTHS = 40  # of a column, in characters


def workbook_of(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Write one sheet with a header.

    Raises `OutputUnusable` for what Excel cannot hold: too many rows, or a control character.
    """
    checked = [[_checked(value, number) for value in row] for number, row in enumerate(rows, 2)]
    if len(checked) >= MAX_ROWS:
        raise OutputUnusable(f"Excel holds {MAX_ROWS:,} rows; write a CSV or Parquet")
    book = Workbook(write_only=True)
    sheet = book.create_sheet("rayedit")
    for at in range(1, len(head) + 1):
        sheet.column_dimensions[get_column_letter(at)].width = _WIDTHS
    sheet.freeze_panes = "A2"
    sheet.append(list(head))
    for cells in checked:
        sheet.append([_cell(sheet, value) for value in cells])
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def _checked(value: Any, row: int) -> Any:
    if not isinstance(value, str):
        return value
    if ILLEGAL_CHARACTERS_RE.search(value):
        raise OutputUnusable(
            f"row {row}: {value!r} holds a control character, which Excel cannot: write a CSV"
        )
    if len(value) > MAX_CHARACTERS:
        raise OutputUnusable(f"row {row}: a cell of Excel holds {MAX_CHARACTERS:,} characters")
    return value


def _cell(sheet: Any, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    cell = WriteOnlyCell(sheet, value)
    cell.data_type = "s"  # what begins with "=" is text too
    return cell
