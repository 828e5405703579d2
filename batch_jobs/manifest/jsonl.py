"""JSONL manifests: one object a line, as columns, as DataFlow's or as an OpenAI Batch."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import fsspec

from batch_jobs.manifest import dataflow, openai_batch
from batch_jobs.manifest.columns import REQUIRED, canonical_names, check_required
from batch_jobs.manifest.row import Row
from batch_jobs.manifest.thin import FileRows, ThinRows
from engine.errors import ManifestInvalid

Cells = dict[str, Any]

LINE_BYTES = 2**20  # read at a time: fsspec's own files copy a block, 50 MiB of S3, for each line


@dataclass(frozen=True, slots=True)
class Shape:
    """`names`: the keys that make a line one of this shape, and what they mean here."""

    read: Callable[[Cells], Row]
    names: dict[str, str]
    has_columns: bool = True


def _read_dataflow(cells: Cells) -> Row:
    row = dataflow.read_line(cells)
    row.set_options(cells)
    row.set_mask(cells.get("mask"))
    return row


COLUMNS = Shape(Row.of_columns, {})
SHAPES = (
    Shape(openai_batch.read_line, openai_batch.NAMES, has_columns=False),
    Shape(_read_dataflow, dataflow.NAMES),
)


def shape_of(cells: Cells) -> Shape:
    """Choose the shape of a file by its first line."""
    return next((shape for shape in SHAPES if shape.names.keys() <= cells.keys()), COLUMNS)


def read_jsonl(source: BinaryIO, file: str, required: Sequence[str]) -> FileRows:
    """Raises `ManifestInvalid` naming the line."""
    rows, shape, offset = ThinRows(), COLUMNS, 0
    columns: dict[str, None] = {}
    names: dict[str, str] = {}
    for number, line in enumerate(io.BufferedReader(source, LINE_BYTES), start=1):  # type: ignore[type-var]
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
        check_required(names, columns, file, required)
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


@contextmanager
def open_lines(file: str) -> Iterator[BinaryIO]:
    """Open a file to read single lines of it, by `read_line_at`."""
    fs, path = fsspec.core.url_to_fs(file)
    with fs.open(path, "rb", block_size=LINE_BYTES) as source:
        yield io.BufferedReader(source, LINE_BYTES)


def read_line_at(source: BinaryIO, offset: int) -> Row:
    """Read the row whose line starts at byte `offset`, with its image and mask."""
    source.seek(offset)
    cells = parse_line(source.readline())
    return shape_of(cells).read(cells)
