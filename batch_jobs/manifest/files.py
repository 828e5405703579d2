"""The files of a manifest: where they are, and which reader each one takes."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import fsspec

from batch_jobs.manifest.csv import read_csv
from batch_jobs.manifest.json import read_json
from batch_jobs.manifest.jsonl import read_jsonl
from batch_jobs.manifest.listing import (
    by_endings,
    ending_of,
    files_below,
    is_hidden,
    without_outputs,
)
from batch_jobs.manifest.parquet import read_parquet
from batch_jobs.manifest.pictures import ENDINGS
from batch_jobs.manifest.reading import AS_IT_IS, Reading
from batch_jobs.manifest.thin import THIN, FileRows
from batch_jobs.manifest.xlsx import read_xlsx
from engine.errors import ManifestInvalid
from storage.location import is_uri, normalized

Reader = Callable[[BinaryIO, str, Reading], FileRows]
TEXTS: dict[str, Reader] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
}
READERS: dict[str, Reader] = {".parquet": read_parquet, ".xlsx": read_xlsx} | TEXTS
# In a folder a .json is as often the description of a data set, or of a picture.
IN_FOLDERS = {*READERS, *(f"{ending}.gz" for ending in TEXTS)} - {".json", ".json.gz"}


@dataclass(frozen=True, slots=True)
class Found:
    """Holds the files of a manifest, sorted, and what is to be said of others beside them."""

    files: list[str]  # absolute paths, or URIs
    notes: list[str]


def find_files(location: str) -> Found:
    """List the files of a path, folder or glob, local or in storage, folders to any depth.

    In a glob `**` stands for any folders, none among them. Raises `ManifestInvalid` where there is
    no file, and what a storage's client raises.
    """
    location = normalized(location)
    files, notes = [], []
    for match, is_folder in _matches(location).items():
        if is_folder:
            found = _in_folder(match)
            files += found.files
            notes += found.notes
        else:
            files.append(match)
    if not files:
        said = "; ".join(["", *notes])
        known = ", ".join(READERS)
        raise ManifestInvalid(
            f"no manifest at {location}: give a file, folder or glob of {known}{said}"
        )
    return Found(sorted(set(files)), notes)


def _matches(location: str) -> dict[str, bool]:
    """Find what a path or glob names: path -> whether it is a folder."""
    if not is_uri(location):
        literal = glob.escape(location) if os.path.exists(location) else location
        paths = map(os.path.abspath, glob.glob(literal, recursive=True))
        return {path: os.path.isdir(path) for path in paths}
    fs, path = fsspec.core.url_to_fs(location)
    if fs.isdir(path):
        return {fs.unstrip_protocol(path): True}
    start = len(path.partition("*")[0].rpartition("/")[0])
    found = fs.glob(path, detail=True)
    return {
        fs.unstrip_protocol(name): info["type"] == "directory"
        for name, info in found.items()
        if not is_hidden(name[start:])
    }


def _in_folder(folder: str) -> Found:
    names, outputs = without_outputs(files_below(folder))
    shown = [name for name in names if not _is_passed_over(name)]
    files = [f"{folder.rstrip('/')}/{name}" for name in shown if ending_of(name) in IN_FOLDERS]
    notes = [f"{folder}/{output}: the output of a job, left out" for output in outputs]
    others = [name for name in shown if ending_of(name) not in IN_FOLDERS]
    pictures = [name for name in others if ending_of(name) in ENDINGS]
    unread = sorted(set(others) - set(pictures))
    notes += [f"{folder}: no manifests, left out: {by_endings(unread)}"] if unread else []
    if pictures and not files:
        notes += [f"it holds {len(pictures):,} pictures: --instruction edits every one"]
    return Found(files, notes)


def _is_passed_over(name: str) -> bool:
    """Tell what Spark and Hive pass over too: "_SUCCESS", "_metadata"."""
    return is_hidden(name) or any(part.startswith("_") for part in name.split("/"))


def read_file(file: str, reading: Reading = AS_IT_IS) -> FileRows:
    """Read a file thin; raises `ManifestInvalid` naming it, and the line or column."""
    packed = "gzip" if ending_of(file).endswith(".gz") else None
    try:
        with fsspec.open(file, "rb", compression=packed) as source:
            if not source.read(1):
                return FileRows(THIN.empty_table(), {}, notes=[f"{file} is empty (0 bytes)"])
            source.seek(0)
            return _reader(file, source)(source, file, reading)
    except ManifestInvalid:
        raise
    except Exception as error:  # storage clients and parsers raise dozens of kinds
        raise ManifestInvalid(f"{file} cannot be read: {error}") from None


def _reader(file: str, source: BinaryIO) -> Reader:
    ending = ending_of(file)
    reader = READERS.get(ending) or TEXTS.get(ending.removesuffix(".gz"))
    if reader is not None:
        return reader
    start = source.read(4)
    source.seek(0)
    if start == b"PAR1":
        return read_parquet
    raise ManifestInvalid(
        f"{file} cannot be read: a manifest ends in {', '.join(READERS)}{_hint(ending)}"
    )


def _hint(ending: str) -> str:
    return "; save it as .xlsx" if ending in (".xls", ".xlsb", ".ods", ".et", ".numbers") else ""
