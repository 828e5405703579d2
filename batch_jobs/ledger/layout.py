"""The files of an output folder, relative to it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from engine.errors import OutputUnusable
from engine.wire import OutputFormat
from storage.storage import Storage

JOB = "job.json"  # what the latest run was told
SUCCESS = "_SUCCESS"  # counts and exit code, once every row is in the ledger
RESULTS = "results"  # the parts of the ledger
FAILED = "failed.csv"  # the rows that failed, where there are any
IMAGES, MASKS, SOURCES = "images", "masks", "sources"
ENDINGS: dict[OutputFormat, str] = {"png": "png", "jpeg": "jpg", "webp": "webp"}


def read_job(storage: Storage) -> dict[str, Any]:
    """Read what the latest run was told; raises `OutputUnusable` for no output of a job."""
    if not storage.exists(JOB):
        raise OutputUnusable(f"{storage.url} is not the output of a job: it has no {JOB}")
    return json.loads(storage.read(JOB))


def image_path(id: str, fingerprint: str, index: int, format: OutputFormat = "png") -> str:
    """Name image `index` of a row: never by user text, never as the file of another fingerprint,
    so that a row that is edited again does not change a committed image."""
    return f"{IMAGES}/{_name(id, fingerprint, index)}.{ENDINGS[format]}"


def mask_path(id: str, fingerprint: str, index: int) -> str:
    """Name where image `index` of a row was edited."""
    return f"{MASKS}/{_name(id, fingerprint, index)}.png"


def source_path(id: str, fingerprint: str, format: OutputFormat = "png") -> str:
    """Name the source of a pair, as the model saw it."""
    return f"{SOURCES}/{_name(id, fingerprint, 0)}.{ENDINGS[format]}"


def published_path(uri: str) -> str:
    """Find the name of a published file in its uri: the output may have been moved since."""
    return "/".join(uri.split("/")[-3:])


def _name(id: str, fingerprint: str, index: int) -> str:
    name = hashlib.sha256(id.encode()).hexdigest()[:32]
    return f"{name[:2]}/{name}-{fingerprint[:8]}-{index}"
