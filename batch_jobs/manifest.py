"""The manifest: which edits a job does. Read thin, without the images that it may carry."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from batch_jobs.readers import ALIASES, OPTIONS, READERS, find_files, read_parquet
from engine.errors import ManifestInvalid

# What the job knows of a row before anything is decoded. `image`: path or URI, or null where
# the manifest holds the bytes: then `file`, `row_group` and `row` say where.
PLAN = pa.schema(
    [
        ("index", pa.int64()),
        ("id", pa.string()),
        ("image", pa.string()),
        ("image_sha256", pa.string()),
        ("file", pa.string()),
        ("row_group", pa.int32()),
        ("row", pa.int32()),
        ("instruction", pa.string()),
        ("options", pa.string()),
    ]
)


def read_manifest(location: str) -> pa.Table:
    """Every row of a Parquet, JSONL or CSV file, folder or glob, with the columns of `PLAN`.

    Raises `ManifestInvalid` naming the file, the column and the first ten offenders.
    """
    try:
        files = find_files(location)
    except (OSError, ImportError, ValueError) as error:
        raise ManifestInvalid(f"{location} cannot be reached: {error}") from None
    folder = os.path.commonpath([os.path.dirname(file) for file in files])
    tables = [_read_file(file, os.path.relpath(file, folder)) for file in files]
    plan = pa.concat_tables(tables)
    plan = plan.set_column(0, "index", pa.array(range(len(plan)), pa.int64()))
    if not len(plan):
        raise ManifestInvalid(f"{location} has no rows")
    _check_ids(plan.column("id"), location)
    return plan


def base_of(location: str) -> str:
    """The folder that relative image paths start from."""
    is_uri = "://" in location
    if is_uri:
        fs, path = fsspec.core.url_to_fs(location)
        is_folder = fs.isdir(path)
    else:
        is_folder = os.path.isdir(location)
    base = location if is_folder else os.path.dirname(location.split("*", maxsplit=1)[0])
    return base.rstrip("/") if is_uri else os.path.abspath(base)


def _read_file(file: str, name: str) -> pa.Table:
    """`name`: of the file among those of the manifest, for rows without an id."""
    reader = READERS.get(os.path.splitext(file)[1].lower(), read_parquet)
    try:
        with fsspec.open(file, "rb") as source:
            groups = [
                _plan_group(table, names, (file, name, group))
                for group, (table, names) in enumerate(reader(source, file))
            ]
    except ManifestInvalid:
        raise
    except Exception as error:  # storage clients and parsers raise dozens of kinds
        raise ManifestInvalid(f"{file} cannot be read: {error}") from None
    return pa.concat_tables(groups) if groups else PLAN.empty_table()


def _plan_group(table: pa.Table, names: dict[str, str], place: tuple[str, str, int]) -> pa.Table:
    file, name, group = place
    table = table.rename_columns([names[name] for name in table.column_names])
    rows = len(table)
    images = [_image_of(value) for value in table.column("image").to_pylist()]
    texts = table.column("instruction").to_pylist()
    options = [name for name in table.column_names if name in OPTIONS]
    values = table.select(options).to_pylist() if options else [{}] * rows
    ids: list[str | None] = [f"{name}-{group}-{row}" for row in range(rows)]
    if "id" in table.column_names:
        ids = [None if id is None else str(id) for id in table.column("id").to_pylist()]
    return pa.table(
        {
            "index": [0] * rows,
            "id": ids,
            "image": [path for path, _ in images],
            "image_sha256": [digest for _, digest in images],
            "file": [file] * rows,
            "row_group": [group] * rows,
            "row": list(range(rows)),
            "instruction": [text if isinstance(text, str) else None for text in texts],
            "options": [options_json(value) for value in values],
        },
        schema=PLAN,
    )


def _image_of(value: Any) -> tuple[str | None, str | None]:
    """(path, sha256 of the bytes) of an image cell: path, bytes, or {bytes, path}."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return None, hashlib.sha256(value).hexdigest()
    return (value, None) if isinstance(value, str) else (None, None)


def options_json(values: dict[str, Any]) -> str:
    """The given options as canonical JSON; whole floats become integers (pandas widens them)."""
    given = {name: value for name, value in values.items() if value is not None}
    for name, value in given.items():
        if isinstance(value, float) and math.isfinite(value) and value == int(value):
            given[name] = int(value)
    return json.dumps(given, sort_keys=True, default=str)


def _check_ids(ids: pa.ChunkedArray, location: str) -> None:
    if ids.null_count:
        nulls = [i for i, value in enumerate(ids.to_pylist()) if value is None][:10]
        raise ManifestInvalid(f"{location}: column id is null in rows {nulls}", param="id")
    counts = ids.value_counts()
    twice = [entry["values"] for entry in counts.to_pylist() if entry["counts"] > 1][:10]
    if twice:
        raise ManifestInvalid(
            f"{location}: ids must be unique; these are not: {', '.join(twice)}", param="id"
        )


def read_embedded(plan: Sequence[dict[str, Any]]) -> Iterator[tuple[int, bytes | None]]:
    """(position in `plan`, bytes) of the rows whose image is in the manifest itself."""
    wanted: dict[tuple[str, int], list[int]] = {}
    for position, row in enumerate(plan):
        if row["image_sha256"] is not None:
            wanted.setdefault((row["file"], row["row_group"]), []).append(position)
    for (file, group), positions in wanted.items():
        with fsspec.open(file, "rb") as source:
            parquet = pq.ParquetFile(source)
            name = next(n for n in parquet.schema_arrow.names if ALIASES.get(n, n) == "image")
            column = parquet.read_row_group(group, columns=[name]).column(name)
            for position in positions:
                value = column[plan[position]["row"]].as_py()
                data = value.get("bytes") if isinstance(value, dict) else value
                yield position, data if isinstance(data, bytes) else None
