"""One line of JSON for each edit that ended: ids, codes and times, never a text or a picture."""

from __future__ import annotations

import logging
from typing import Any

from serve_app.ingress.record import EditRecord

logger = logging.getLogger("ray.serve")

LOGGED_FIELDS = (
    "code",
    "status",
    "key",
    "model",
    "stream",
    "replayed",
    "steps",
    "num_images",
    "batch_size",
    "read_s",
    "decode_s",
    "wait_s",
    "model_s",
    "encode_s",
    "total_s",
)


def logged_fields(record: EditRecord) -> dict[str, Any]:
    """Return what is written of an edit; the request's id stands beside it already."""
    values = {name: getattr(record, name) for name in LOGGED_FIELDS}
    return {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in values.items()
    }


def log_edit(record: EditRecord) -> None:
    """Write the line of an edit that has ended."""
    logger.info("edit %s in %.3f s", record.code, record.total_s, extra=logged_fields(record))
