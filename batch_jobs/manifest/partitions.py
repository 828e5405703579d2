"""Folders of Hive's kind: what stands below `split=train` has a column `split`."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import unquote

import pyarrow as pa

from batch_jobs.manifest.carried import Carried, carried_values
from batch_jobs.manifest.columns import canonical_names
from batch_jobs.manifest.reading import Reading
from batch_jobs.manifest.thin import FileRows
from engine.errors import ManifestInvalid

_NULL = "__HIVE_DEFAULT_PARTITION__"


def with_partitions(read: FileRows, file: str, place: str, reading: Reading) -> FileRows:
    """Give the rows of a file what the folders say that it stands in.

    `place`: its path in the manifest. Raises `ManifestInvalid` where they name a column that an
    edit needs or an option: which file has it, a reader of the file alone would not know.
    """
    pairs = [part.partition("=") for part in place.split("/")[:-1] if "=" in part]
    values = {name: unquote(value) for name, _, value in pairs if name and value != _NULL}
    if known := canonical_names(values, f"the folder of {file}"):
        raise ManifestInvalid(
            f"{file} stands in a folder that names the column {next(iter(known))}: write it into "
            "the file",
            param=next(iter(known)),
        )
    if not values or not len(read.rows):
        return read
    carried = Carried(wanted=reading.carry)
    rows = [carried.json(values | carried_values(one)) for one in read.rows["carried"].to_pylist()]
    at, field = read.rows.schema.get_field_index("carried"), read.rows.schema.field("carried")
    table = read.rows.set_column(at, field, pa.array(rows, field.type))
    return replace(read, rows=table, carried=sorted({*read.carried, *carried.columns}))
