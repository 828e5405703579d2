"""A manifest of the pictures below a folder, written to be filled in or edited."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batch_jobs.manifest.listing import ending_of
from batch_jobs.manifest.plan import open_manifest
from batch_jobs.manifest.reading import Reading
from batch_jobs.manifest.table import csv_of
from engine.errors import ManifestInvalid, OutputUnusable
from storage.location import absolute, is_uri, located, normalized
from storage.sources import filesystem_of

Lines = Sequence[dict[str, Any]]
HEAD = ("id", "image", "instruction")
BLANK = "?"  # an instruction that stands for none


def write_manifest(folder: str, dest: str, reading: Reading) -> tuple[int, list[str]]:
    """Write a row for each picture with each instruction, or with none yet, into a new file.

    Its ending says the format; images are named relative to its folder where that can be. Returns
    the number of rows, and what is to be said. Raises `ManifestInvalid` and `OutputUnusable`.
    """
    write = WRITERS.get(ending_of(dest))
    if write is None:
        raise OutputUnusable(f"{dest} cannot be written: name a {', '.join(WRITERS)}")
    asked = reading if reading.instructions else Reading((BLANK,), reading.glob)
    manifest = open_manifest(folder, asked)
    base = manifest.plan["file"][0].as_py()
    rows = manifest.plan.select(HEAD).to_pylist()
    unnamed = [row["id"] for row in rows if row["image"] is None]
    if unnamed:
        raise ManifestInvalid(f"{base}: the name of {unnamed[0]} is not UTF-8: rename it")
    for row in rows:
        row["image"] = _from(dest, located(row["image"], base))
        row["instruction"] = row["instruction"] if reading.instructions else ""
    _publish(dest, write(rows))
    return len(rows), manifest.notes


def _from(dest: str, picture: str) -> str:
    """Name a picture as a manifest at `dest` does."""
    if is_uri(dest) or is_uri(picture):
        return picture
    return os.path.relpath(picture, os.path.dirname(absolute(dest)))


def _publish(dest: str, data: bytes) -> None:
    dest = normalized(dest)
    try:
        if not is_uri(dest):
            with open(dest, "xb") as file:
                file.write(data)
            return
        fs, path = filesystem_of(dest)
        if fs.exists(path):
            raise FileExistsError
        fs.pipe_file(path, data)
    except FileExistsError:
        raise OutputUnusable(f"{dest} is there already: give another -o, or remove it") from None
    except Exception as error:  # storage clients raise dozens of kinds
        reason = getattr(error, "strerror", None) or error
        raise OutputUnusable(f"{dest} cannot be written: {reason}") from None


def _csv(rows: Lines) -> bytes:
    return csv_of(HEAD, ([row[name] for name in HEAD] for row in rows))


def _jsonl(rows: Lines) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _parquet(rows: Lines) -> bytes:
    schema = pa.schema([(name, pa.string()) for name in HEAD])
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), buffer, compression="zstd")
    return buffer.getvalue()


def _xlsx(rows: Lines) -> bytes:
    from batch_jobs.manifest.workbook import workbook_of

    return workbook_of(HEAD, ([row[name] for name in HEAD] for row in rows))


WRITERS: dict[str, Callable[[Lines], bytes]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".xlsx": _xlsx,
    ".jsonl": _jsonl,
}
