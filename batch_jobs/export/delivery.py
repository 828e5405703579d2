"""The pictures of a job, delivered into a folder under names that people know."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from batch_jobs.export.lines import READERS
from batch_jobs.export.names import Asked, stems
from batch_jobs.ledger.layout import SUCCESS, published_path, read_job
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.order import by_id
from batch_jobs.manifest.plan import base_of
from batch_jobs.manifest.reading import Reading
from engine.errors import OutputUnusable
from storage.storage import Storage

COLUMNS = ("id", "status", "instruction", "source", "chain_id", "turn", "outputs")


@dataclass(frozen=True, slots=True)
class Delivered:
    """Says what a delivery did."""

    dest: str  # path or URI
    pictures: int  # masks included
    new: int  # of them; the others were there already
    beside: int  # of the new ones: another file had their name, and they got a number
    changed: dict[
        str, str
    ]  # parts of names that other systems cannot hold, and what became of them
    failed: int  # rows without a picture
    is_finished: bool  # the job


def deliver(storage: Storage, dest: str) -> Delivered:
    """Bring every edited picture into the folder `dest`, as hard links where that can be.

    A file that is there is never written over: one of the same content is the picture itself,
    beside any other the picture gets a number. Raises `OutputUnusable`.
    """
    job = read_job(storage)
    base = base_of(job["manifest"], Reading.of(job.get("config", {})))
    known = by_id(Ledger(storage).read(COLUMNS))
    rows = known.filter(pc.equal(known["status"], "ok")).to_pylist()
    firsts = {row["chain_id"]: row["source"] for row in rows if row["turn"] == 1}
    sources = [firsts.get(row["chain_id"], row["source"]) for row in rows]  # which people know
    asked = [
        Asked(row["id"], source, row["instruction"] or "")
        for row, source in zip(rows, sources, strict=True)
    ]
    names, changed = stems(asked, base)
    folder = Storage.open(dest)
    folder.make()
    pairs = [pair for row, name in zip(rows, names, strict=True) for pair in _pictures(row, name)]
    with ThreadPoolExecutor(READERS) as pool:
        numbers = list(pool.map(lambda pair: _bring(storage, folder, *pair), pairs))
    new = [number for number in numbers if number]
    return Delivered(
        folder.url,
        len(pairs),
        len(new),
        sum(number > 1 for number in new),
        changed,
        len(known) - len(rows),
        storage.exists(SUCCESS),
    )


def _pictures(row: dict[str, Any], name: str) -> Iterator[tuple[str, str]]:
    """List the files of a row: where each is, and where it goes."""
    outputs = row["outputs"]
    for index, output in enumerate(outputs):
        stem = name if len(outputs) == 1 else f"{name}-{index}"  # as `rayedit edit` names several
        path = published_path(output["uri"])
        yield path, stem + posixpath.splitext(path)[1]
        if output["mask_uri"]:
            yield published_path(output["mask_uri"]), f"{stem}-mask.png"


def _bring(storage: Storage, folder: Storage, path: str, name: str) -> int:
    """Deliver one file; returns the number that it got among those of its name, 0 where it was
    there already."""
    stem, ending = posixpath.splitext(name)
    with bringing(storage.uri(path), folder.uri(name)):
        number, wanted = 1, name
        while not folder.copy_new(wanted, storage, path):
            if folder.read(wanted) == storage.read(path):
                return 0
            number += 1
            wanted = f"{stem}-{number}{ending}"
    return number


@contextmanager
def bringing(picture: str, dest: str) -> Iterator[None]:
    """Raise `OutputUnusable` where storage fails; both are named by paths or URIs."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise OutputUnusable(f"{picture} cannot be delivered as {dest}: {reason}") from None
