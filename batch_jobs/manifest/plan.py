"""The manifest: which edits a job does. Read thin, without the pictures that it may carry."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, replace

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.manifest.chains import chain_problems, without_later_images
from batch_jobs.manifest.columns import PICTURES
from batch_jobs.manifest.files import find_files, read_file
from batch_jobs.manifest.partitions import with_partitions
from batch_jobs.manifest.pictures import read_pictures
from batch_jobs.manifest.planned import PLAN, reference_paths
from batch_jobs.manifest.reading import AS_IT_IS, Reading
from batch_jobs.manifest.thin import FileRows
from engine.errors import EngineError, ManifestInvalid
from storage.location import FIXED, absolute, is_uri, normalized

logger = logging.getLogger(__name__)

OFFENDERS = 10  # as many are named
_WILD = r"[*?[]"


@dataclass(frozen=True, slots=True)
class Manifest:
    """Holds a manifest as read, before anything is checked."""

    location: str
    plan: pa.Table  # with the columns of `PLAN`
    files: dict[str, FileRows]  # by path or URI
    reading: Reading = AS_IT_IS
    left_out: Sequence[str] = ()  # what is to be said of files beside them, and of what is not read

    @property
    def notes(self) -> list[str]:
        """Say what was left out, how files were read, and what becomes of columns that mean nothing
        to an edit; a line each."""
        read = self.files.values()
        notes = [*self.left_out, *(note for rows in read for note in rows.notes)]
        carried = sorted({name for rows in read for name in rows.carried})
        dropped = sorted({name for rows in read for name in rows.dropped})
        if carried:
            kept = "in the ledger's `carried`" if self.reading.carry else "left out"
            notes.append(f"columns that mean nothing to an edit, {kept}: {', '.join(carried)}")
        if dropped:
            notes.append(f"columns of files or long texts, left out: {', '.join(dropped)}")
        return notes


def read_manifest(location: str, reading: Reading = AS_IT_IS) -> pa.Table:
    """Read every row of a file, folder or glob, with the columns of `PLAN`; logs the notes.

    Raises `ManifestInvalid` naming the file, the column and the first ten offenders.
    """
    manifest = open_manifest(location, reading)
    for note in manifest.notes:
        logger.warning("%s", note)
    for param, problems in (("id", id_problems), ("turn", chain_problems)):
        for problem in problems(manifest.plan):
            raise ManifestInvalid(f"{location}: {problem}", param=param)
    return manifest.plan


def open_manifest(location: str, reading: Reading = AS_IT_IS) -> Manifest:
    """Read a manifest without a look at its ids and chains; raises `ManifestInvalid`."""
    if reading.instructions:
        return _open_pictures(location, reading)
    with _reaching(location):
        folder = _folder_of(location)  # the same, however many files it holds later
        try:
            found = find_files(location)
        except ManifestInvalid:
            if "instruction" in reading.required or folder != absolute(location):
                raise
            return _open_pictures(location, replace(reading, instructions=("",)))
    files: dict[str, FileRows] = {}
    tables = []
    for name in found.files:
        place = os.path.relpath(name, folder)
        files[name] = with_partitions(read_file(name, reading), name, place, reading)
        tables.append(_with_place(files[name], name, place))
    plan, notes = without_later_images(pa.concat_tables(tables))
    manifest = Manifest(location, plan, files, reading, [*found.notes, *notes])
    if not len(manifest.plan):
        raise ManifestInvalid("; ".join([f"{location} has no rows", *manifest.notes]))
    return manifest


def _open_pictures(location: str, reading: Reading) -> Manifest:
    """Read the pictures of a folder, or of a glob, as a manifest."""
    with _reaching(location):
        folder = _folder_of(location)
        pattern = absolute(location)[len(folder) :].strip("/")
        if pattern and not re.search(_WILD, pattern):
            if not is_uri(folder) and not os.path.exists(absolute(location)):
                raise ManifestInvalid(f"no folder at {location}")
            raise ManifestInvalid(
                f"--instruction is for a folder of pictures, and {location} is none: the rows of a "
                "manifest have their own, and rayedit edit takes one picture",
                param="instruction",
            )
        rows = read_pictures(folder, replace(reading, glob=pattern or reading.glob))
    return Manifest(location, _with_place(rows, folder, ""), {folder: rows}, reading)


@contextmanager
def _reaching(location: str) -> Iterator[None]:
    try:
        yield
    except EngineError:
        raise
    except Exception as error:  # storage clients raise dozens of kinds
        raise ManifestInvalid(f"{location} cannot be reached: {error}") from None


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


def base_of(location: str, reading: Reading = AS_IT_IS) -> str:
    """Find the folder that relative paths of images and masks start from."""
    if reading.image_base and not reading.instructions:
        return absolute(reading.image_base).rstrip("/") or "/"
    return _folder_of(location)


def _folder_of(location: str) -> str:
    """Find the folder of a manifest; of a glob the last one before its first wildcard."""
    location = normalized(location)
    if is_uri(location):
        fs, path = fsspec.core.url_to_fs(location)
        is_folder = fs.isdir(path)
    else:
        is_folder = os.path.isdir(location)
    base = location if is_folder else os.path.dirname(location)
    while re.search(_WILD, base) and not os.path.exists(base):
        base = os.path.dirname(base)
    return base.rstrip("/") if is_uri(location) else os.path.abspath(base)


def has_relative(plan: pa.Table) -> bool:
    """Tell whether any image or mask of a plan depends on `base_of` its manifest."""
    columns = [*(plan[name] for name in PICTURES), reference_paths(plan)]
    fixed = (pc.match_substring_regex(paths, FIXED) for paths in columns)
    return any(pc.any(pc.invert(is_fixed)).as_py() for is_fixed in fixed)
