"""Parts of a ledger that another version wrote, with today's columns.

A column that a part does not have is null in its rows: an old row says nothing of an option that
came later. Parts of 0.1.0 before September 2026 name a place in the manifest inside `source`, as
"file#row_group.row".
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.ledger.entry import SCHEMA

_PLACE_IN_SOURCE = r"^(?P<file>.*)#(?P<row_group>\d+)\.(?P<row>\d+)$"


def needed_columns(there: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Choose the columns to read of a part that has those of `there`."""
    if "place" in wanted and "place" not in there:
        wanted = [*wanted, "source"]
    return [name for name in there if name in wanted]


def in_todays_columns(part: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Return `columns` of `SCHEMA` from a part that may be an old one."""
    if "source" in part.column_names and "place" not in part.column_names:
        part = _with_place(part)
    fields = [SCHEMA.field(name) for name in columns]
    found = [
        part[field.name].cast(field.type)
        if field.name in part.column_names
        else pa.nulls(len(part), field.type)
        for field in fields
    ]
    return pa.table(found, schema=pa.schema(fields))


def with_sources_in(url: str, part: pa.Table) -> pa.Table:
    """Correct the `source` of later turns, which is a picture of this output at `url`: it may have
    been moved since."""
    path = pc.struct_field(
        pc.extract_regex(part["source"], r"(?P<path>[^/]+/[^/]+/[^/]+)$"), "path"
    )
    here = pc.binary_join_element_wise(url, path, "/")
    source = pc.if_else(pc.fill_null(pc.greater(part["turn"], 1), False), here, part["source"])
    return part.set_column(part.column_names.index("source"), SCHEMA.field("source"), source)


def _with_place(part: pa.Table) -> pa.Table:
    """Take the places out of `source`."""
    source = part["source"].combine_chunks()
    places = pc.extract_regex(source, _PLACE_IN_SOURCE)
    kind = SCHEMA.field("place").type
    numbers = [pc.struct_field(places, field.name).cast(field.type) for field in kind]
    place = pa.StructArray.from_arrays(numbers, fields=list(kind), mask=pc.is_null(places))
    named = pc.if_else(pc.is_null(places), source, pa.scalar(None, pa.string()))
    at = part.column_names.index("source")
    return part.set_column(at, "source", named).append_column("place", place)
