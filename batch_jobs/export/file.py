"""The ledger of a job, finished or not, as a file that others read."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass

import fsspec
import pyarrow.compute as pc

from batch_jobs.export.lines import ExportLines, Shape
from batch_jobs.ledger.entry import Status
from batch_jobs.ledger.layout import JOB, SUCCESS
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.order import by_id
from batch_jobs.manifest.files import find_files
from engine.errors import ManifestInvalid, OutputUnusable
from storage.location import is_uri
from storage.retrying import retrying
from storage.storage import Storage


@dataclass(frozen=True, slots=True)
class Exported:
    """Says what an export wrote."""

    dest: str  # path or URI
    rows: int
    unfinished_of: int | None  # rows of the job, where it has not finished


def export_ledger(
    storage: Storage, to: Shape, dest: str | None = None, status: Status | None = None
) -> Exported:
    """Write one line a row, failed ones included, by id: numbers in it by their value.

    `dest`: default `export-<shape>.jsonl` in the output; `status`: of the rows that are written,
    default all. Raises `OutputUnusable`.
    """
    if not storage.exists(JOB):
        raise OutputUnusable(f"{storage.url} is not the output of a job: it has no {JOB}")
    job = json.loads(storage.read(JOB))
    dest = dest or storage.uri(f"export-{to}{f'-{status}' if status else ''}.jsonl")
    if dest in (files := _files_of(job["manifest"])) or os.path.abspath(dest) in files:
        raise OutputUnusable(f"{dest} is the manifest of the job: give another --dest")
    table = by_id(Ledger(storage).read())
    if status is not None:
        table = table.filter(pc.equal(table["status"], status))
    _publish(dest, ExportLines(storage, job["manifest"], to).of(table))
    return Exported(dest, len(table), None if storage.exists(SUCCESS) else job["rows"])


def _files_of(manifest: str) -> list[str]:
    try:
        return find_files(manifest)
    except ManifestInvalid:  # it has gone
        return [manifest]


def _publish(dest: str, lines: Iterable[str]) -> None:
    """Write a file whole or not at all: beside its place and renamed, or in one upload."""
    is_remote = is_uri(dest)
    folder = None if is_remote else os.path.dirname(os.path.abspath(dest))
    part = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=folder, suffix=".part", delete=False
        ) as file:
            part = file.name
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        if is_remote:
            fs, path = fsspec.core.url_to_fs(dest)
            retrying(lambda: fs.put_file(part, path))
        else:
            os.chmod(part, 0o666 & ~_umask())
            os.replace(part, dest)
    except OutputUnusable:
        raise
    except Exception as error:  # storage clients raise dozens of kinds
        reason = getattr(error, "strerror", None) or error
        if is_remote and getattr(error, "errno", None) == errno.ENOSPC:
            reason = f"{reason} in {tempfile.gettempdir()}, where it is put together: set TMPDIR"
        raise OutputUnusable(f"{dest} cannot be written: {reason}") from None
    finally:
        if part is not None and os.path.exists(part):
            os.unlink(part)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
