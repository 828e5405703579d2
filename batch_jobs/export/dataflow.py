"""An output as the cache of DataFlow's image-editing pipeline: its names of files, its lines.

The names are those of OpenDCAI/DataFlow-MM: pictures as its `ImageIO` saves them, the lines as its
`FileStorage` does in the example pipeline, whose next step reads them with `pandas.read_json` and
knows a row by its number alone. So every row of the manifest has a line, in the manifest's order.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from batch_jobs.export.delivery import bringing
from batch_jobs.export.lines import READERS, DataFlowKeys, dataflow_line, located_pictures
from batch_jobs.ledger.entry import Entry, from_ledger
from batch_jobs.ledger.layout import published_path, read_job
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.manifest.plan import base_of, open_manifest
from batch_jobs.manifest.planned import planned_rows
from batch_jobs.manifest.reading import Reading
from engine.errors import OutputUnusable
from storage.storage import Storage

LINES = "dataflow_cache_step_step1.jsonl"  # of its `file_name_prefix` and the number of the step


@dataclass(frozen=True, slots=True)
class LaidOut:
    """Says what was written."""

    dest: str  # of the lines; path or URI
    rows: int  # of the manifest
    pictures: int
    unfinished: int  # rows that have not been edited yet


class _Picture(NamedTuple):
    """Hold where a picture is in the output of the job, and where it goes."""

    path: str
    name: str


def lay_out(storage: Storage, dest: str, keys: DataFlowKeys) -> LaidOut:
    """Write the lines and pictures of a job, finished or not, into the folder `dest`.

    A row that failed, or is not edited yet, has no picture in its line. Pictures are hard links
    where that can be; again for more rows, those that are there stay. Raises `OutputUnusable` where
    another's file has the name of one, and `ManifestInvalid` where the manifest is gone.
    """
    job = read_job(storage)
    reading = Reading.of(job.get("config", {}))
    manifest, base = job["manifest"], base_of(job["manifest"], reading)
    planned = planned_rows(open_manifest(manifest, reading).plan)
    known = {entry.id: entry for entry in from_ledger(Ledger(storage).read())}
    entries = [known.get(row.id) or Entry.of(row) for row in planned]
    folder = Storage.open(dest)
    folder.make()
    _check_ours(folder, entries)
    pictures = [_pictures(index, entry) for index, entry in enumerate(entries)]
    flat = [picture for row in pictures for picture in row]
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(lambda picture: _bring(storage, folder, picture), flat))
    lines = [
        dataflow_line(
            entry, *located_pictures(entry, base), [folder.uri(p.name) for p in row], keys
        )
        for entry, row in zip(entries, pictures, strict=True)
    ]
    folder.publish(LINES, "".join(f"{line}\n" for line in lines).encode())
    unfinished = sum(entry.id not in known for entry in entries)
    return LaidOut(folder.uri(LINES), len(entries), len(flat), unfinished)


def _pictures(index: int, entry: Entry) -> list[_Picture]:
    """List the pictures of the row that is number `index` of the manifest."""
    paths = [published_path(output.uri) for output in entry.outputs]
    sample = f"sample_{index}"
    return [
        _Picture(path, f"{sample}/{sample}_{k}{posixpath.splitext(path)[1]}")
        for k, path in enumerate(paths)
    ]


def _check_ours(folder: Storage, entries: Sequence[Entry]) -> None:
    """Raises `OutputUnusable` where the lines that are there are not of this job."""
    if not folder.exists(LINES):
        return
    with suppress(ValueError, TypeError, KeyError):
        there = {json.loads(line)["id"] for line in folder.read(LINES).splitlines()}
        if there <= {entry.id for entry in entries}:
            return
    raise OutputUnusable(f"{folder.uri(LINES)} is not of this job: give another --dest")


def _bring(storage: Storage, folder: Storage, picture: _Picture) -> None:
    with bringing(storage.uri(picture.path), folder.uri(picture.name)):
        if folder.copy_new(picture.name, storage, picture.path):
            return
        is_there = folder.read(picture.name) == storage.read(picture.path)
    if not is_there:
        raise OutputUnusable(
            f"{folder.uri(picture.name)} is another picture: remove it, or give another --dest"
        )
