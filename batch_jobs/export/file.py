"""The ledger of a job, finished or not, as a file that others read."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal, cast, get_args

import fsspec
import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.export.columns import PeoplesTable
from batch_jobs.export.image_folder import write_folder, write_tar
from batch_jobs.export.lines import DATAFLOW_KEYS, DataFlowKeys, ExportLines, LineShape
from batch_jobs.export.pairs import Pairs
from batch_jobs.export.triplets import INSTRUCT_PIX2PIX, ULTRA_EDIT, Triplets
from batch_jobs.ledger.entry import Status
from batch_jobs.ledger.layout import SUCCESS, read_job
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.order import by_id
from batch_jobs.manifest.files import find_files
from batch_jobs.manifest.plan import base_of
from batch_jobs.manifest.reading import Reading
from engine.errors import ManifestInvalid, OutputUnusable
from storage.location import is_uri
from storage.retrying import retrying
from storage.storage import Storage

TableShape = Literal["csv", "xlsx"]
DataSetShape = Literal["triplets", "instruct-pix2pix", "imagefolder", "webdataset"]
Shape = Literal[  # all of these
    "jsonl",
    "dataflow",
    "openai-batch",
    "csv",
    "xlsx",
    "triplets",
    "instruct-pix2pix",
    "imagefolder",
    "webdataset",
]
NAMES = {
    "csv": "export.csv",
    "xlsx": "export.xlsx",
    "triplets": "export-triplets.parquet",
    "instruct-pix2pix": "export-instruct-pix2pix.parquet",
    "imagefolder": "export-imagefolder",
    "webdataset": "export-webdataset.tar",
}
DATA_SETS = get_args(DataSetShape)  # of edited rows alone


@dataclass(frozen=True, slots=True)
class Exported:
    """Says what an export wrote."""

    dest: str  # path or URI
    rows: int
    unfinished_of: int | None  # rows of the job, where it has not finished


def export_ledger(
    storage: Storage,
    to: Shape,
    dest: str | None = None,
    status: Status | None = None,
    keys: DataFlowKeys = DATAFLOW_KEYS,
) -> Exported:
    """Write one line a row, failed ones included, by id: numbers in it by their value; of a data
    set one an edited image.

    `dest`: default `export-<shape>.jsonl` or one of `NAMES` in the output; `status`: of the rows
    that are written, default all; `keys`: of DataFlow's lines. Raises `OutputUnusable`.
    """
    job = read_job(storage)
    name = NAMES.get(to, f"export-{to}.jsonl")
    dest = dest or storage.uri(name.replace(".", f"-{status}.") if status else name)
    if dest in (files := _files_of(job["manifest"])) or os.path.abspath(dest) in files:
        raise OutputUnusable(f"{dest} is the manifest of the job: give another --dest")
    table = by_id(Ledger(storage).read())
    if to in DATA_SETS:
        status = "ok"
    if status is not None:
        table = table.filter(pc.equal(table["status"], status))
    reading = Reading.of(job.get("config", {}))
    base = base_of(job["manifest"], reading) if to not in ("jsonl", "openai-batch") else ""
    rows, unfinished_of = len(table), None if storage.exists(SUCCESS) else job["rows"]
    if to in ("triplets", "instruct-pix2pix", "imagefolder", "webdataset"):
        pairs = Pairs(storage, base, reading, table)
        rows = pairs.rows
        _publish_pairs(pairs, to, dest)
    else:
        _publish(dest, _writer(storage, base, cast(LineShape | TableShape, to), table, keys))
    return Exported(dest, rows, unfinished_of)


def _publish_pairs(pairs: Pairs, to: DataSetShape, dest: str) -> None:
    if to == "imagefolder":
        folder = Storage.open(dest)
        folder.make()
        write_folder(pairs, folder)
    elif to == "webdataset":
        _publish(dest, lambda file: write_tar(pairs, file))
    else:
        columns = ULTRA_EDIT if to == "triplets" else INSTRUCT_PIX2PIX
        _publish(dest, Triplets(pairs, columns).write)


def _writer(
    storage: Storage, base: str, to: LineShape | TableShape, table: pa.Table, keys: DataFlowKeys
) -> Callable[[BinaryIO], object]:
    """Choose what writes a table in a shape."""
    if to == "csv":
        return lambda file: file.write(PeoplesTable(storage, base, table).as_csv())
    if to == "xlsx":
        return lambda file: file.write(PeoplesTable(storage, base, table).as_xlsx())
    lines = ExportLines(storage, base, to, keys).of(table)
    return lambda file: file.writelines(f"{line}\n".encode() for line in lines)


def publish_lines(dest: str, lines: Iterator[str]) -> int:
    """Write lines to a path or URI, all or none; returns their bytes. Raises `OutputUnusable`."""
    size_bytes = 0

    def write(file: BinaryIO) -> None:
        nonlocal size_bytes
        for line in lines:
            size_bytes += file.write(f"{line}\n".encode())

    _publish(dest, write)
    return size_bytes


def _files_of(manifest: str) -> list[str]:
    try:
        return find_files(manifest).files
    except ManifestInvalid:  # it has gone
        return [manifest]


def _publish(dest: str, write: Callable[[BinaryIO], object]) -> None:
    """Write a file whole or not at all: beside its place and renamed, or in one upload."""
    is_remote = is_uri(dest)
    folder = None if is_remote else os.path.dirname(os.path.abspath(dest))
    part = None
    try:
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
            part = file.name
            write(file)  # type: ignore[arg-type]
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
