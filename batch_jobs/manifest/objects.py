"""Objects of JSON as rows: as columns, as DataFlow's or as an OpenAI Batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from batch_jobs.manifest import dataflow, openai_batch
from batch_jobs.manifest.columns import REQUIRED, canonical_names, check_required
from batch_jobs.manifest.reading import Reading
from batch_jobs.manifest.row import Row
from batch_jobs.manifest.thin import FileRows, ThinRows

Cells = dict[str, Any]
Names = Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """`names`: keys that mean something here, the `keys` among them make an object one of it."""

    read: Callable[[Cells, Names, Reading], Row]
    keys: frozenset[str]
    names: dict[str, str]
    has_columns: bool = True


def _read_columns(cells: Cells, names: Names, _: Reading) -> Row:
    return Row.of_columns(cells, names)


def _read_dataflow(cells: Cells, names: Names, _: Reading) -> Row:
    row = dataflow.read_line(cells)
    row.set_options(cells, names)
    row.set_mask(cells.get("mask"))
    return row


def _read_openai(cells: Cells, _: Names, reading: Reading) -> Row:
    return openai_batch.read_line(cells, reading)


COLUMNS = Shape(_read_columns, frozenset(), {})
OPENAI = Shape(_read_openai, frozenset({"body", "url"}), openai_batch.NAMES, has_columns=False)
SHAPES = (OPENAI, Shape(_read_dataflow, frozenset(dataflow.NAMES), dataflow.NAMES))


def shape_of(cells: Cells, reading: Reading) -> Shape:
    """Choose the shape of a file by its first object."""
    if reading.file_ids:
        return OPENAI
    return next((shape for shape in SHAPES if shape.keys <= cells.keys()), COLUMNS)


def read_object(cells: Cells, shape: Shape, reading: Reading) -> Row:
    """Read an object by its own keys; raises `ManifestInvalid`."""
    return shape.read(cells, _names(shape, tuple(cells), reading.columns), reading)


class ObjectRows:
    """The objects of a file on their way into a table, each by its own keys."""

    def __init__(self, file: str, reading: Reading) -> None:
        self._file, self._reading = file, reading
        self._rows = ThinRows(carry=reading.carry)
        self._shape: Shape | None = None
        self._columns: dict[str, None] = {}
        self._names: dict[str, str] = {}

    def add(self, cells: Cells, place: int) -> Row:
        """Take an object; raises `ManifestInvalid` where it is no row."""
        self._shape = self._shape or shape_of(cells, self._reading)
        row = read_object(cells, self._shape, self._reading)
        self._rows.add(row, place)
        if not cells.keys() <= self._columns.keys():
            self._columns |= dict.fromkeys(cells)
            self._names |= _names(self._shape, tuple(cells), self._reading.columns)
        return row

    def of_file(self) -> FileRows:
        """Return all of them; raises `ManifestInvalid` where none has a column that is needed."""
        if self._shape is None or not self._shape.names:
            chosen, required = self._reading.columns, self._reading.required
            check_required(self._names, self._columns, self._file, chosen, required)
        return self._rows.of_file(self._names)


@lru_cache(1000)
def _names(
    shape: Shape, keys: tuple[str, ...], chosen: tuple[tuple[str, str], ...]
) -> dict[str, str]:
    """Key of an object -> what it means, for those that mean something."""
    if not shape.has_columns:
        return shape.names
    own = [key for key in keys if key not in shape.names]
    found = canonical_names(own, "", () if shape.names else chosen)
    if shape.names:  # beside those, it can have an id and options
        found = {column: name for column, name in found.items() if name not in REQUIRED}
    return found | {key: name for key, name in shape.names.items() if key in keys}
