"""One line of JSON for each edit that ended: ids, codes and times, never a text or a picture."""

from __future__ import annotations

import logging
from typing import Any

from serve_app.ingress.flights import Flight

logger = logging.getLogger("ray.serve")

FIELDS = (
    "code",
    "status",
    "key",
    "stream",
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


def record_of(flight: Flight) -> dict[str, Any]:
    """What is written of `flight`; the request's id stands beside it already."""
    values = {name: getattr(flight, name) for name in FIELDS}
    return {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in values.items()
    }


def log_edit(flight: Flight) -> None:
    logger.info("edit %s in %.3f s", flight.code, flight.total_s, extra=record_of(flight))
