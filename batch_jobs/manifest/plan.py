"""The manifest: which edits a job does. Read thin, without the images that it may carry."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.manifest.files import find_files, read_file
from batch_jobs.manifest.jsonl import open_lines, read_line_at
from batch_jobs.manifest.parquet import read_images
from batch_jobs.manifest.rows import THIN, FileRows
from engine.errors import ManifestInvalid
from storage.location import normalized

# What the job knows of a row before anything is decoded. `image`: path or URI, or null where
# the manifest holds the bytes: then `file`, `row_group` and `row` say where.
PLAN = pa.schema([("index", pa.int64()), ("file", pa.string()), *list(THIN)])
OFFENDERS = 10  # as many are named


@dataclass(frozen=True, slots=True)
class Manifest:
    """`plan`: a table of `PLAN`; `files`: what was read of each file but its rows."""

    location: str
    plan: pa.Table
    files: dict[str, FileRows]


def read_manifest(location: str) -> pa.Table:
    """Every row of a Parquet, JSONL or CSV file, folder or glob, with the columns of `PLAN`.

    Raises `ManifestInvalid` naming the file, the column and the first ten offenders.
    """
    manifest = open_manifest(location)
    for problem in id_problems(manifest.plan):
        raise ManifestInvalid(f"{location}: {problem}", param="id")
    return manifest.plan


def open_manifest(location: str) -> Manifest:
    """The same without a look at the ids."""
    try:
        names = find_files(location)
        folder = base_of(location)  # the same, however many files it holds later
    except ManifestInvalid:
        raise
    except Exception as error:  # storage clients raise dozens of kinds
        raise ManifestInvalid(f"{location} cannot be reached: {error}") from None
    files = {name: read_file(name) for name in names}
    tables = [
        _with_place(rows, name, os.path.relpath(name, folder)) for name, rows in files.items()
    ]
    plan = pa.concat_tables(tables)
    if not len(plan):
        raise ManifestInvalid(f"{location} has no rows")
    plan = plan.set_column(0, "index", pa.array(range(len(plan)), pa.int64()))
    return Manifest(location, plan, files)


def _with_place(read: FileRows, file: str, name: str) -> pa.Table:
    """The rows of a file as a plan; `name`: of the file among those of the manifest, for rows
    without an id."""
    rows = read.rows
    count = len(rows)
    if "id" not in read.names.values():
        rows = rows.set_column(0, "id", _generated_ids(rows["row_group"].to_numpy(), name))
    rows = rows.add_column(0, "file", pa.repeat(file, count))
    return rows.add_column(0, "index", pa.repeat(0, count)).cast(PLAN)


def _generated_ids(groups: np.ndarray, name: str) -> pa.Array:
    """ "name-group-number", the rows of each group numbered from 0."""
    _, firsts, inverse = np.unique(groups, return_index=True, return_inverse=True)
    parts = [
        pc.cast(pa.array(part), pa.string())
        for part in (groups, np.arange(len(groups)) - firsts[inverse])
    ]
    return pc.binary_join_element_wise(name, *parts, "-")


def id_problems(plan: pa.Table) -> Iterator[str]:
    """What is wrong with the ids of a plan, each in one sentence with the first offenders."""
    missing = pc.indices_nonzero(pc.is_null(plan["id"]))
    if len(missing):
        rows = [_row_of(plan, place) for place in missing[:OFFENDERS].to_pylist()]
        yield f"column id is null in rows {', '.join(rows)}{_more(missing)} (the first is 1)"
    counts = pc.value_counts(plan["id"].drop_null())
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(twice):
        ids = []
        for id in twice[:OFFENDERS].to_pylist():
            files = plan.filter(pc.equal(plan["id"], id))["file"].unique().to_pylist()
            ids.append(_place(", ".join(map(os.path.basename, files)), id, plan))
        yield f"ids must be unique; these are not: {', '.join(ids)}{_more(twice)}"


def _row_of(plan: pa.Table, place: int) -> str:
    """Which row of its file the one at `place` of the plan is, from 1."""
    file = plan["file"][place].as_py()
    return _place(file, str(place - pc.index(plan["file"], file).as_py() + 1), plan)


def _place(file: str, name: str, plan: pa.Table) -> str:
    """A row's name, and its file where the manifest has several."""
    return name if len(plan["file"].unique()) == 1 else f"{name} ({os.path.basename(file)})"


def _more(offenders: Sized) -> str:
    left = len(offenders) - OFFENDERS
    return f" and {left:,} more" if left > 0 else ""


def base_of(location: str) -> str:
    """The folder that relative image paths start from."""
    location = normalized(location)
    is_uri = "://" in location
    if is_uri:
        fs, path = fsspec.core.url_to_fs(location)
        is_folder = fs.isdir(path)
    else:
        is_folder = os.path.isdir(location)
    base = location if is_folder else os.path.dirname(location)
    while re.search(r"[*?[]", base) and not os.path.exists(base):
        base = os.path.dirname(base)
    return base.rstrip("/") if is_uri else os.path.abspath(base)


def has_relative(images: pa.ChunkedArray) -> bool:
    """Whether what an image is depends on `base_of` its manifest."""
    absolute = pc.match_substring_regex(images, r"^(/|[A-Za-z][A-Za-z0-9+.-]*://)")
    return bool(pc.any(pc.invert(absolute)).as_py())


def read_embedded(plan: Sequence[dict[str, Any]]) -> Iterator[tuple[int, bytes | None]]:
    """(position in `plan`, bytes) of the rows whose image is in the manifest itself."""
    wanted: dict[str, list[int]] = {}
    for position, row in enumerate(plan):
        if row["image_sha256"] is not None:
            wanted.setdefault(row["file"], []).append(position)
    for file, positions in wanted.items():
        if not file.lower().endswith(".jsonl"):
            yield from _read_groups(file, plan, positions)
            continue
        with open_lines(file) as source:
            for position in positions:
                yield position, read_line_at(source, plan[position]["row"]).data


def _read_groups(
    file: str, plan: Sequence[dict[str, Any]], positions: list[int]
) -> Iterator[tuple[int, bytes | None]]:
    groups: dict[int, dict[int, int]] = {}
    for position in positions:
        row = plan[position]
        groups.setdefault(row["row_group"], {})[row["row"]] = position
    for group, rows in groups.items():
        for number, data in read_images(file, group, rows):
            yield rows[number], data
