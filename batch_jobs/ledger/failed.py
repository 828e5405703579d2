"""The rows that failed, as a CSV that people read, mend and give back to `--retry`."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.ledger.order import by_id
from engine.errors import ManifestInvalid

logger = logging.getLogger(__name__)

HEAD = ("id", "image", "instruction", "code", "message")
# of the ledger, what the file is made from
FAILED_COLUMNS = (
    *("id", "status", "source", "place", "instruction"),
    *("error_code", "error_message"),
)


def failed_rows(results: pa.Table) -> list[dict[str, Any]]:
    """List what `HEAD` names of each failed row, by id; `results` has `FAILED_COLUMNS`."""
    failed = results.select(FAILED_COLUMNS).filter(pc.equal(results["status"], "error"))
    return [
        {
            "id": row["id"],
            "image": row["source"] or _place(row["place"]),
            "instruction": row["instruction"] or "",
            "code": row["error_code"],
            "message": row["error_message"],
        }
        for row in by_id(failed).to_pylist()
    ]


def _place(place: dict[str, Any] | None) -> str:
    """Say where the manifest holds an image itself."""
    if place is None:
        return ""
    return f"{place['file']}, row group {place['row_group']}, row {place['row']}"


def failed_csv(results: pa.Table) -> str:
    """Write the failed rows of a ledger as CSV, with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, HEAD, lineterminator="\n")
    writer.writeheader()
    writer.writerows(failed_rows(results))
    return text.getvalue()


def read_ids(location: str, known: pa.ChunkedArray) -> pa.ChunkedArray:
    """Read the column `id` of a CSV, as `failed_csv` writes it and Excel writes it again.

    `known`: the ids of the manifest. Raises `ManifestInvalid` where none of them is there.
    """
    try:
        with fsspec.open(location, "rb") as file:
            data = file.read()
    except Exception as error:  # storage clients raise dozens of kinds
        reason = getattr(error, "strerror", None) or error
        raise ManifestInvalid(f"--retry {location}: {reason}", param="retry") from None
    read = [ids for text in _readings(data) if (ids := _ids(text)) is not None]
    if not read:
        raise ManifestInvalid(
            f'--retry {location} has no column "id": give the failed.csv of a job', param="retry"
        )
    found, ids = max(((_among(ids, known), ids) for ids in read), key=lambda pair: len(pair[0]))
    if not len(found):
        raise ManifestInvalid(
            f"--retry {location}: the manifest has none of its {len(ids)} ids", param="retry"
        )
    if missing := len(ids) - len(found):
        logger.warning("%s: %d of its ids have left the manifest", location, missing)
    return pa.chunked_array([found])


def _among(ids: list[str], known: pa.ChunkedArray) -> pa.Array:
    asked = pa.array(ids, pa.string())
    return asked.filter(pc.is_in(asked, known.combine_chunks()))


def _readings(data: bytes) -> Iterator[str]:
    """Decode as UTF-8, and as the Chinese Windows on which Excel may have saved it: a few bytes may
    be both."""
    for encoding in ("utf-8-sig", "gb18030"):
        with suppress(UnicodeDecodeError):
            yield data.decode(encoding)
    yield data.decode("latin-1")  # reads anything: its ASCII is right


def _ids(text: str) -> list[str] | None:
    for delimiter in ",;\t":
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        if "id" in (rows.fieldnames or ()):
            return list(dict.fromkeys(row["id"] for row in rows if row["id"]))
    return None
