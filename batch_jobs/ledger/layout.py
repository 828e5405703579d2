"""The files of an output folder, relative to it."""

from __future__ import annotations

import hashlib

JOB = "job.json"  # what the latest run was told
SUCCESS = "_SUCCESS"  # counts and exit code, once every row is in the ledger
RESULTS = "results"  # the parts of the ledger


def image_path(id: str, fingerprint: str, index: int) -> str:
    """Name image `index` of a row: never by user text, never as the file of another fingerprint,
    so that a row that is edited again does not change a committed image."""
    name = hashlib.sha256(id.encode()).hexdigest()[:32]
    return f"images/{name[:2]}/{name}-{fingerprint[:8]}-{index}.png"
