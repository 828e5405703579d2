"""Rows in the order in which people count: by id, numbers in it by their value."""

from __future__ import annotations

import re

import pyarrow as pa

_DIGITS = re.compile(r"(\d+)")


def by_id(table: pa.Table) -> pa.Table:
    """Sort the rows of a table by `id`: "row-2" before "row-10"."""
    ids = table["id"].to_pylist()
    order = sorted(range(len(ids)), key=lambda row: _natural(ids[row]))
    return table.take(pa.array(order, pa.int64()))


def _natural(id: str) -> list[tuple[int, int, str]]:
    parts = _DIGITS.split(id)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]
