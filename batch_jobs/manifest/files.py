"""The files of a manifest: where they are, and which reader each one takes."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Sequence
from typing import BinaryIO

import fsspec

from batch_jobs.manifest.columns import REQUIRED
from batch_jobs.manifest.csv import read_csv
from batch_jobs.manifest.jsonl import read_jsonl
from batch_jobs.manifest.parquet import read_parquet
from batch_jobs.manifest.thin import FileRows
from engine.errors import ManifestInvalid
from storage.location import is_uri, normalized

Reader = Callable[[BinaryIO, str, Sequence[str]], FileRows]
READERS: dict[str, Reader] = {".parquet": read_parquet, ".jsonl": read_jsonl, ".csv": read_csv}


def find_files(location: str) -> list[str]:
    """List the files of a path, folder or glob, local or in storage, sorted."""
    location = normalized(location)
    if is_uri(location):
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


def read_file(file: str, required: Sequence[str] = REQUIRED) -> FileRows:
    """Read a file thin; `required`: the columns that it must have.

    Raises `ManifestInvalid` naming the file, and the line or column.
    """
    try:
        with fsspec.open(file, "rb") as source:
            return _reader(file, source)(source, file, required)
    except ManifestInvalid:
        raise
    except Exception as error:  # storage clients and parsers raise dozens of kinds
        raise ManifestInvalid(f"{file} cannot be read: {error}") from None


def _ending(file: str) -> str:
    return os.path.splitext(file)[1].lower()


def _reader(file: str, source: BinaryIO) -> Reader:
    reader = READERS.get(_ending(file))
    if reader is not None:
        return reader
    start = source.read(4)
    source.seek(0)
    if start == b"PAR1":
        return read_parquet
    raise ManifestInvalid(f"{file} cannot be read: a manifest ends in {', '.join(READERS)}")
