"""`rayedit export`: the ledger of a job, finished or not, in the shape that others read."""

from __future__ import annotations

import base64
import errno
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Annotated, Any, Literal

import fsspec
import pyarrow as pa
import typer

from batch_jobs.job import JOB, SUCCESS
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.manifest import dataflow, openai_batch
from batch_jobs.manifest.files import find_files
from batch_jobs.manifest.plan import base_of
from batch_jobs.stages.publish import image_path
from batch_jobs.storage.retrying import retrying
from batch_jobs.storage.storage import Storage
from engine.errors import ManifestInvalid, OutputUnusable
from storage.location import is_uri, located

Shape = Literal["jsonl", "dataflow", "openai-batch"]
Entry = dict[str, Any]

ROWS_AT_ONCE = 64
READERS = 8  # images read at a time: storage answers slowly, not little
_DIGITS = re.compile(r"(\d+)")
_IN_MANIFEST = re.compile(r".*#\d+\.\d+")  # a source whose bytes the manifest holds


def export(
    output: Annotated[str, typer.Argument(help="The output of a job; path or URI.")],
    to: Annotated[Shape, typer.Option(help="The shape of a line.")],
    dest: Annotated[
        str | None,
        typer.Option(help="The file; path or URI. Default: OUTPUT/export-<shape>.jsonl."),
    ] = None,
) -> None:
    """Write the ledger of OUTPUT as JSONL: one line a row, failed ones included.

    jsonl: the ledger's columns. dataflow: images, conversations, output_image. openai-batch:
    responses as OpenAI's Batch API writes them, images as base64.
    """
    storage = Storage.open(output)
    if not storage.exists(JOB):
        raise OutputUnusable(f"{storage.url} is not the output of a job: it has no {JOB}")
    job = json.loads(storage.read(JOB))
    dest = dest or storage.uri(f"export-{to}.jsonl")
    if dest in (files := _files_of(job["manifest"])) or os.path.abspath(dest) in files:
        raise OutputUnusable(f"{dest} is the manifest of the job: give another --dest")
    table = _sorted(Ledger(storage).read())
    _publish(dest, (line for entries in _lines(table, to, storage, job) for line in entries))
    unfinished = "" if storage.exists(SUCCESS) else f" of {job['rows']:,}; the job has not finished"
    typer.echo(f"{dest} {len(table):,} rows{unfinished}")


def _files_of(manifest: str) -> list[str]:
    try:
        return find_files(manifest)
    except ManifestInvalid:  # it has gone
        return [manifest]


def _lines(table: pa.Table, to: Shape, storage: Storage, job: Entry) -> Iterator[Iterable[str]]:
    base = base_of(job["manifest"]) if to == "dataflow" else ""
    line_of: Callable[[Entry], str] = {
        "jsonl": _ledger_line,
        "dataflow": lambda entry: _dataflow_line(entry, storage, base),
        "openai-batch": lambda entry: _batch_line(entry, storage),
    }[to]
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(table), ROWS_AT_ONCE):
            yield pool.map(line_of, table.slice(start, ROWS_AT_ONCE).to_pylist())


def _ledger_line(entry: Entry) -> str:
    return json.dumps(entry, ensure_ascii=False, default=datetime.isoformat)


def _dataflow_line(entry: Entry, storage: Storage, base: str) -> str:
    source = entry["source"] or ""
    if _IN_MANIFEST.fullmatch(source):
        source = ""
    elif source:
        source = located(source, base)
    return dataflow.export_line(entry, source, [storage.uri(path) for path in _images(entry)])


def _batch_line(entry: Entry, storage: Storage) -> str:
    images = [base64.b64encode(_read(storage, path, entry)) for path in _images(entry)]
    return openai_batch.export_line(entry, [image.decode() for image in images])


def _images(entry: Entry) -> list[str]:
    """Where the images of a row are in the output, which may have been moved."""
    count = len(entry["outputs"] or ()) if entry["status"] == "ok" else 0
    return [image_path(entry["id"], entry["fingerprint"], index) for index in range(count)]


def _read(storage: Storage, path: str, entry: Entry) -> bytes:
    try:
        return storage.read(path)
    except OSError as error:
        raise OutputUnusable(
            f"{storage.uri(path)}, an image of row {entry['id']}, cannot be read: {error}"
        ) from None


def _sorted(table: pa.Table) -> pa.Table:
    """By id, numbers in it by their value."""
    ids = table["id"].to_pylist()
    order = sorted(range(len(ids)), key=lambda row: _natural(ids[row]))
    return table.take(pa.array(order, pa.int64()))


def _natural(id: str) -> list[tuple[int, int, str]]:
    parts = _DIGITS.split(id)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


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
