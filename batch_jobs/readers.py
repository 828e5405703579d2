"""The files of a manifest: Parquet, JSONL and CSV, each as tables of the columns that we know."""

from __future__ import annotations

import csv
import difflib
import glob
import io
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from engine.edit import EditOptions
from engine.errors import ManifestInvalid

ALIASES = {
    "edit_prompt": "instruction",
    "prompt": "instruction",
    "input_image": "image",
    "source_image": "image",
    "source_img": "image",
    "text_guidance": "guidance_scale",
}
OPTIONS = tuple(EditOptions.model_fields)
MAX_CELL_CHARACTERS = 2**20  # Python's own limit, 128 KiB, is for a whole process
COLUMNS = ("id", "image", "instruction", *OPTIONS)


def find_files(location: str) -> list[str]:
    """The files of a path, folder or glob, local or in storage, sorted."""
    if "://" in location:
        fs, path = fsspec.core.url_to_fs(location)
        patterns = [f"{path.rstrip('/')}/*{end}" for end in READERS] if fs.isdir(path) else [path]
        found = [fs.unstrip_protocol(name) for pattern in patterns for name in fs.glob(pattern)]
    else:
        literal = glob.escape(location) if os.path.exists(location) else location
        folder = os.path.isdir(location)
        patterns = [f"{literal}/*{end}" for end in READERS] if folder else [literal]
        found = [os.path.abspath(name) for pattern in patterns for name in glob.glob(pattern)]
    if not found:
        raise ManifestInvalid(
            f"no manifest at {location}: give a file, folder or glob of {', '.join(READERS)}"
        )
    return sorted(found)


Groups = Iterator[tuple[pa.Table, dict[str, str]]]


def read_parquet(source: BinaryIO, file: str) -> Groups:
    """Each row group of a Parquet file, the known columns only, with their canonical names."""
    parquet = pq.ParquetFile(source)
    names = _canonical_names(parquet.schema_arrow.names, file)
    for group in range(parquet.num_row_groups):
        yield parquet.read_row_group(group, columns=list(names)), names


def read_csv(source: BinaryIO, file: str) -> Groups:
    """A CSV with a header; every cell is text, an empty one is null."""
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    header = source.readline().decode("utf-8-sig")
    columns = next(csv.reader([header]), [])
    names = _canonical_names(columns, file)
    lines = csv.reader(io.TextIOWrapper(source, "utf-8", newline=""))
    rows = [(number, row) for number, row in enumerate(lines, start=2) if row]
    for number, row in rows:
        if len(row) != len(columns):
            raise ManifestInvalid(
                f"{file}, line {number}: {len(row)} cells, the header has {len(columns)}"
            )
    yield _as_table([dict(zip(columns, row, strict=True)) for _, row in rows], names), names


def read_jsonl(source: BinaryIO, file: str) -> Groups:
    """One JSON object a line."""
    rows = []
    for number, line in enumerate(source, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ManifestInvalid(f"{file}, line {number}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise ManifestInvalid(f"{file}, line {number}: must be a JSON object")
        rows.append(row)
    names = _canonical_names(list(dict.fromkeys(key for row in rows for key in row)), file)
    yield _as_table(rows, names), names


def _as_table(rows: list[dict[str, Any]], names: dict[str, str]) -> pa.Table:
    """Cells as JSON text, so that a column may hold what it likes until its row is checked."""
    return pa.table(
        {name: pa.array([_cell(row.get(name)) for row in rows], pa.string()) for name in names}
    )


def _cell(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, str) and not value.isprintable():
        value = value.encode("utf-8", "replace").decode()  # a lone surrogate is not text
    return value if isinstance(value, str) else json.dumps(value)


READERS = {".parquet": read_parquet, ".jsonl": read_jsonl, ".csv": read_csv}


def _canonical_names(columns: Sequence[str], file: str) -> dict[str, str]:
    """Column of the file -> its canonical name, for those that rayedit knows."""
    names: dict[str, str] = {}
    for column in columns:
        name = ALIASES.get(column, column)
        if name in COLUMNS:
            if name in names.values():
                raise ManifestInvalid(f"{file} has two columns for {name}: {column} is one")
            names[column] = name
        elif near := difflib.get_close_matches(column, OPTIONS, n=1, cutoff=0.8):
            raise ManifestInvalid(
                f'{file}: column "{column}" is not an option. Did you mean "{near[0]}"? '
                "Rename it, so that it is not ignored",
                param=column,
            )
    for name in ("image", "instruction"):
        if name not in names.values():
            raise ManifestInvalid(
                f'{file} has no column "{name}"; it has {", ".join(columns)}', param=name
            )
    return names
