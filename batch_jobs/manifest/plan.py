"""The manifest: which edits a job does. Read thin, without the pictures that it may carry."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sized
from dataclasses import dataclass

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.manifest.columns import PICTURES, REQUIRED, WITH_A_STYLE
from batch_jobs.manifest.files import find_files, read_file
from batch_jobs.manifest.planned import PLAN, reference_paths
from batch_jobs.manifest.thin import FileRows
from engine.errors import ManifestInvalid
from storage.location import FIXED, is_uri, normalized

OFFENDERS = 10  # as many are named


@dataclass(frozen=True, slots=True)
class Manifest:
    """Holds a manifest as read, before anything is checked."""

    location: str
    plan: pa.Table  # with the columns of `PLAN`
    files: dict[str, FileRows]  # by path or URI


def read_manifest(location: str, style: str | None = None) -> pa.Table:
    """Read every row of a Parquet, JSONL or CSV file, folder or glob, with the columns of `PLAN`.

    `style`: of the job, with which rows may have no instruction of their own.
    Raises `ManifestInvalid` naming the file, the column and the first ten offenders.
    """
    manifest = open_manifest(location, style)
    for problem in id_problems(manifest.plan):
        raise ManifestInvalid(f"{location}: {problem}", param="id")
    return manifest.plan


def open_manifest(location: str, style: str | None = None) -> Manifest:
    """Read a manifest without a look at its ids; raises `ManifestInvalid`."""
    try:
        names = find_files(location)
        folder = base_of(location)  # the same, however many files it holds later
    except ManifestInvalid:
        raise
    except Exception as error:  # storage clients raise dozens of kinds
        raise ManifestInvalid(f"{location} cannot be reached: {error}") from None
    required = REQUIRED if style is None else WITH_A_STYLE
    files = {name: read_file(name, required) for name in names}
    tables = [
        _with_place(rows, name, os.path.relpath(name, folder)) for name, rows in files.items()
    ]
    plan = pa.concat_tables(tables)
    if not len(plan):
        raise ManifestInvalid(f"{location} has no rows")
    return Manifest(location, plan, files)


def _with_place(read: FileRows, file: str, name: str) -> pa.Table:
    """Make a plan of the rows of a file; `name`: of the file among those of the manifest, for rows
    without an id."""
    rows = read.rows
    count = len(rows)
    if "id" not in read.names.values():
        rows = rows.set_column(0, "id", _generated_ids(rows["row_group"].to_numpy(), name))
    return rows.add_column(0, "file", pa.repeat(file, count)).cast(PLAN)


def _generated_ids(groups: np.ndarray, name: str) -> pa.Array:
    """ "name-group-number", the rows of each group numbered from 0."""
    _, firsts, inverse = np.unique(groups, return_index=True, return_inverse=True)
    parts = [
        pc.cast(pa.array(part), pa.string())
        for part in (groups, np.arange(len(groups)) - firsts[inverse])
    ]
    return pc.binary_join_element_wise(name, *parts, "-")


def id_problems(plan: pa.Table) -> Iterator[str]:
    """Yield each fault of the ids of a plan, one sentence with the first offenders."""
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
    """Tell which row of its file the one at `place` of the plan is, from 1."""
    file = plan["file"][place].as_py()
    return _place(file, str(place - pc.index(plan["file"], file).as_py() + 1), plan)


def _place(file: str, name: str, plan: pa.Table) -> str:
    """Name a row, and its file where the manifest has several."""
    return name if len(plan["file"].unique()) == 1 else f"{name} ({os.path.basename(file)})"


def _more(offenders: Sized) -> str:
    left = len(offenders) - OFFENDERS
    return f" and {left:,} more" if left > 0 else ""


def base_of(location: str) -> str:
    """Find the folder that relative paths of images and masks start from."""
    location = normalized(location)
    if is_uri(location):
        fs, path = fsspec.core.url_to_fs(location)
        is_folder = fs.isdir(path)
    else:
        is_folder = os.path.isdir(location)
    base = location if is_folder else os.path.dirname(location)
    while re.search(r"[*?[]", base) and not os.path.exists(base):
        base = os.path.dirname(base)
    return base.rstrip("/") if is_uri(location) else os.path.abspath(base)


def has_relative(plan: pa.Table) -> bool:
    """Tell whether any image or mask of a plan depends on `base_of` its manifest."""
    columns = [*(plan[name] for name in PICTURES), reference_paths(plan)]
    fixed = (pc.match_substring_regex(paths, FIXED) for paths in columns)
    return any(pc.any(pc.invert(is_fixed)).as_py() for is_fixed in fixed)
