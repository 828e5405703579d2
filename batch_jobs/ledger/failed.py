"""The rows that failed, as a CSV that people read, mend and give back to `--retry`."""

from __future__ import annotations

import csv
import io
import logging
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
    ids = pa.array(dict.fromkeys(_ids(location, data)), pa.string())
    found = ids.filter(pc.is_in(ids, known.combine_chunks()))
    if not len(found):
        raise ManifestInvalid(
            f"--retry {location}: the manifest has none of its {len(ids)} ids", param="retry"
        )
    if missing := len(ids) - len(found):
        logger.warning("%s: %d of its ids have left the manifest", location, missing)
    return pa.chunked_array([found])


def _ids(location: str, data: bytes) -> list[str]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:  # Excel saves CSV in the encoding of its system
        text = data.decode("gb18030", "replace")
    for delimiter in ",;\t":
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        if "id" in (rows.fieldnames or ()):
            return [row["id"] for row in rows if row["id"]]
    raise ManifestInvalid(
        f'--retry {location} has no column "id": give the failed.csv of a job', param="retry"
    )
