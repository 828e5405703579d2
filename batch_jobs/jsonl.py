"""JSONL manifests: one object a line, as columns, as DataFlow's or as an OpenAI Batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from batch_jobs import dataflow, openai_batch
from batch_jobs.columns import REQUIRED, canonical_names, check_required
from batch_jobs.rows import FileRows, Row, ThinRows
from engine.errors import ManifestInvalid

Cells = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """`names`: the keys that make a line one of this shape, and what they mean here."""

    read: Callable[[Cells], Row]
    names: dict[str, str]
    has_columns: bool = True


def _read_dataflow(cells: Cells) -> Row:
    row = dataflow.read_line(cells)
    row.set_options(cells)
    return row


COLUMNS = Shape(Row.of_columns, {})
SHAPES = (
    Shape(openai_batch.read_line, openai_batch.NAMES, has_columns=False),
    Shape(_read_dataflow, dataflow.NAMES),
)


def shape_of(cells: Cells) -> Shape:
    """The shape of a file, from its first line."""
    return next((shape for shape in SHAPES if shape.names.keys() <= cells.keys()), COLUMNS)


def read_jsonl(source: BinaryIO, file: str) -> FileRows:
    """Raises `ManifestInvalid` naming the line."""
    rows, shape, offset = ThinRows(), COLUMNS, 0
    columns: dict[str, None] = {}
    names: dict[str, str] = {}
    for number, line in enumerate(source, start=1):
        start, offset = offset, offset + len(line)
        if not line.strip():
            continue
        try:
            cells = parse_line(line)
            shape = shape if columns else shape_of(cells)
            rows.add(shape.read(cells), start)
        except ManifestInvalid as error:
            raise ManifestInvalid(f"{file}, line {number}: {error.message}") from None
        if not cells.keys() <= columns.keys():
            columns |= dict.fromkeys(cells)
            names = _names(shape, columns, file)
    if not shape.names:
        check_required(names, columns, file)
    ignored = [column for column in columns if column not in names and shape.has_columns]
    return FileRows(rows.table(), names, ignored)


def _names(shape: Shape, columns: dict[str, None], file: str) -> dict[str, str]:
    if not shape.has_columns:
        return shape.names
    found = canonical_names([name for name in columns if name not in shape.names], file)
    if shape.names:  # beside those, it can have an id and options
        found = {column: name for column, name in found.items() if name not in REQUIRED}
    return found | shape.names


def parse_line(line: bytes) -> Cells:
    try:
        cells = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid(f"not JSON: {error}") from None
    if not isinstance(cells, dict):
        raise ManifestInvalid("must be a JSON object")
    return cells


def read_line_at(source: BinaryIO, offset: int) -> Row:
    """The row whose line starts at byte `offset`, with its image."""
    source.seek(offset)
    cells = parse_line(source.readline())
    return shape_of(cells).read(cells)
