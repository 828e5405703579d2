"""The files of a manifest: Parquet, JSONL and CSV, each read thin, without its images."""

from __future__ import annotations

import csv
import glob
import io
import os
from collections.abc import Callable
from typing import BinaryIO

import fsspec

from batch_jobs.manifest.columns import canonical_names, check_required
from batch_jobs.manifest.jsonl import read_jsonl
from batch_jobs.manifest.parquet import read_parquet
from batch_jobs.manifest.rows import FileRows, Row, ThinRows
from engine.errors import ManifestInvalid
from storage.location import normalized

MAX_CELL_CHARACTERS = 2**20  # Python's own limit, 128 KiB, is for a whole process


def find_files(location: str) -> list[str]:
    """The files of a path, folder or glob, local or in storage, sorted."""
    location = normalized(location)
    if "://" in location:
        fs, path = fsspec.core.url_to_fs(location)
        folder = fs.isdir(path)
        names = fs.glob(f"{path.rstrip('/')}/*" if folder else path)
        found = [fs.unstrip_protocol(name) for name in names]
    else:
        literal = glob.escape(location) if os.path.exists(location) else location
        folder = os.path.isdir(location)
        found = list(map(os.path.abspath, glob.glob(f"{literal}/*" if folder else literal)))
    if folder:
        found = [name for name in found if _ending(name) in READERS]
    if not found:
        raise ManifestInvalid(
            f"no manifest at {location}: give a file, folder or glob of {', '.join(READERS)}"
        )
    return sorted(found)


def read_file(file: str) -> FileRows:
    """Raises `ManifestInvalid` naming the file, and the line or column."""
    try:
        with fsspec.open(file, "rb") as source:
            return _reader(file, source)(source, file)
    except ManifestInvalid:
        raise
    except Exception as error:  # storage clients and parsers raise dozens of kinds
        raise ManifestInvalid(f"{file} cannot be read: {error}") from None


def _ending(file: str) -> str:
    return os.path.splitext(file)[1].lower()


def _reader(file: str, source: BinaryIO) -> Callable[[BinaryIO, str], FileRows]:
    reader = READERS.get(_ending(file))
    if reader is not None:
        return reader
    start = source.read(4)
    source.seek(0)
    if start == b"PAR1":
        return read_parquet
    raise ManifestInvalid(f"{file} cannot be read: a manifest ends in {', '.join(READERS)}")


def read_csv(source: BinaryIO, file: str) -> FileRows:
    """A CSV with a header; every cell is text, an empty one is null."""
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    header = source.readline().decode("utf-8-sig")
    columns = next(csv.reader([header]), [])
    names = canonical_names(columns, file)
    check_required(names, columns, file)
    lines = csv.reader(io.TextIOWrapper(source, "utf-8", newline=""))
    rows = ThinRows()
    for cells in lines:
        if not cells:
            continue
        number = 1 + lines.line_num  # of its last line: a quoted cell may have several
        if len(cells) != len(columns):
            raise ManifestInvalid(
                f"{file}, line {number}: {len(cells)} cells, the header has {len(columns)}"
            )
        row = Row.of_columns(dict(zip(columns, cells, strict=True)))
        if row.data is not None:
            raise ManifestInvalid(
                f"{file}, line {number}: a CSV holds no images; use Parquet or JSONL"
            )
        rows.add(row, number)
    return FileRows(rows.table(), names, [column for column in columns if column not in names])


READERS = {".parquet": read_parquet, ".jsonl": read_jsonl, ".csv": read_csv}
