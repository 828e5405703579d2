"""Records as Arrow columns: the fields of a dataclass or of a pydantic model are the columns.

One declaration says what a record holds, in Python and between processes. What comes out of a
table is what went in: nothing is parsed or checked a second time.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

T = TypeVar("T")

SCALARS = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    bytes: pa.large_binary(),
    datetime: pa.timestamp("us", tz="UTC"),
}
# An array of any shape; its bytes are counted with 64 bits, as 2 GiB of pixels may be in a column.
ARRAY = pa.struct(
    [("shape", pa.list_(pa.int32())), ("dtype", pa.string()), ("data", pa.large_binary())]
)


def schema_of(record: Any) -> pa.Schema:
    """List the columns of a table of such records, all of them nullable."""
    return pa.schema([(name, type_of(kind)) for name, kind in _kinds(record).items()])


def type_of(kind: Any) -> pa.DataType:
    """Find the Arrow type of an annotation; raises `TypeError` for one that has none."""
    kind = _given(kind)
    if get_origin(kind) is Literal:
        return SCALARS[type(get_args(kind)[0])]
    if get_origin(kind) in (list, tuple):
        return pa.list_(type_of(get_args(kind)[0]))
    if kind is np.ndarray:
        return ARRAY
    return SCALARS.get(kind) or pa.struct(list(schema_of(kind)))


def to_table(record: type[T], records: Iterable[T]) -> pa.Table:
    """Make a table with a row for each record."""
    return pa.Table.from_pylist([_plain(one) for one in records], schema=schema_of(record))


def to_array(record: type[T], records: Iterable[T | None]) -> pa.Array:
    """Make a column with a struct for each record, null for None."""
    return pa.array([_plain(one) for one in records], type_of(record))


def from_table(record: type[T], table: pa.Table) -> list[T]:
    """Read the records of a table; a column that is missing has its field's default."""
    kind: Any = record
    read, known = _reader(kind), _kinds(kind)
    names = [name for name in table.column_names if name in known]
    return [read(row) for row in table.select(names).to_pylist()]


def _given(kind: Any) -> Any:
    """Strip an annotation of its metadata, and of its None: every column may be null."""
    while get_origin(kind) in (Annotated, Union, types.UnionType):
        given = [part for part in get_args(kind) if part is not types.NoneType]
        if get_origin(kind) is not Annotated and len(given) != 1:
            raise TypeError(f"{kind}: a column has one type")
        kind = given[0]
    return kind


@lru_cache
def _kinds(record: Any) -> dict[str, Any]:
    """List the fields of a record and their annotations."""
    if issubclass(record, BaseModel):
        return {name: field.annotation for name, field in record.model_fields.items()}
    hints = get_type_hints(record)
    return {field.name: hints[field.name] for field in fields(record)}


def _plain(value: Any) -> Any:
    """Write a value as `pyarrow` takes it."""
    if isinstance(value, np.ndarray):
        return {"shape": value.shape, "dtype": value.dtype.str, "data": value.tobytes()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, BaseModel) or hasattr(value, "__dataclass_fields__"):
        kind: Any = type(value)
        return {name: _plain(getattr(value, name)) for name in _kinds(kind)}
    return value


@lru_cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """Make a function that reads a value of this type from a plain one."""
    kind = _given(kind)
    if kind is np.ndarray:
        return _array
    if get_origin(kind) in (list, tuple):
        collect, read = get_origin(kind), _reader(get_args(kind)[0])
        return lambda value: None if value is None else collect(map(read, value))
    if get_origin(kind) is Literal or kind in SCALARS:
        return lambda value: value
    readers = {name: _reader(inner) for name, inner in _kinds(kind).items()}
    make = kind.model_construct if issubclass(kind, BaseModel) else kind
    return lambda value: (
        None
        if value is None
        else make(**{name: readers[name](part) for name, part in value.items()})
    )


def _array(value: Mapping[str, Any] | None) -> np.ndarray | None:
    """Read an array that shares the memory of its bytes, and cannot be written."""
    if value is None:
        return None
    return np.frombuffer(value["data"], value["dtype"]).reshape(value["shape"])
