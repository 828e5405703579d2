"""Every picture beside its source, page by page: the files themselves, none of them copied."""

from __future__ import annotations

import math
import posixpath
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.ledger.layout import published_path
from batch_jobs.ledger.order import by_id
from batch_jobs.report.templates import environment
from storage.location import located, normalized, scheme_of
from storage.storage import Storage

FOLDER = "report"
MOST_PAIRS = 100_000  # rows; a page of this many more would be gigabytes for a long manifest
ROWS_PER_PAGE = 60
MOST_PAGES = 200  # then they grow


def write_pairs(storage: Storage, results: pa.Table, base: str) -> int:
    """Publish the pages of all edited rows, by id; returns how many rows they show.

    `results` has the columns id, status, instruction, source, outputs; `base`: the folder that
    relative sources start from.
    """
    ok = by_id(results.filter(has_pictures(results)))[:MOST_PAIRS]
    per_page = max(ROWS_PER_PAGE, math.ceil(len(ok) / MOST_PAGES))
    page_count = math.ceil(len(ok) / per_page)
    template = environment().get_template("pairs.html.j2")
    written = []
    for page in range(1, page_count + 1):
        rows = ok.slice((page - 1) * per_page, per_page).to_pylist()
        pairs = [_pair(row, base, storage.uri(FOLDER)) for row in rows]
        told = {"pairs": pairs, "page": page, "page_count": page_count, "page_name": page_name}
        written.append(f"{FOLDER}/{page_name(page)}")
        storage.publish(written[-1], template.render(told).encode())
    for path in set(storage.list(FOLDER, ".html")).difference(written):
        storage.remove(path)  # of a run that had more
    return len(ok)


def has_pictures(results: pa.Table) -> pa.ChunkedArray:
    """Tell of each row of a ledger whether it is ok, and its pictures were kept."""
    count = pc.fill_null(pc.list_value_length(results["outputs"]), 0)
    return pc.and_(pc.equal(results["status"], "ok"), pc.greater(count, 0))


def page_name(page: int) -> str:
    """Name the file of a page, from 1."""
    return f"pairs-{page}.html"


def _pair(row: dict[str, Any], base: str, folder: str) -> dict[str, Any]:
    source = row["source"]
    return {
        "id": row["id"],
        "instruction": row["instruction"],
        "source": source,
        "source_url": source and relative_url(located(source, base), folder),
        "files": [out | {"path": published_path(out["uri"])} for out in row["outputs"] or ()],
    }


def relative_url(location: str, folder: str) -> str | None:
    """Write where a path or URI is, seen from a page in `folder`; None where that is other storage.

    A relative one holds when both are moved together, and over HTTP.
    """
    location, folder = normalized(location), normalized(folder)
    if scheme_of(location) != scheme_of(folder):
        return None
    target, start = (place.partition("://")[2] or place for place in (location, folder))
    return quote(posixpath.relpath(f"/{target}", f"/{start}"))
