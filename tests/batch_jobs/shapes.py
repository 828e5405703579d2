"""Manifests in the shapes of others, and what a plan says of a row."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batch_jobs.manifest.embedded import read_embedded
from batch_jobs.manifest.planned import PlannedRow
from batch_jobs.records import from_table
from engine.errors import EngineError
from engine.options import EditOptions
from engine.registry import find_model

POCKET = find_model("pocket")


def batch_line(id: str, url: str, **body: Any) -> dict[str, Any]:
    body = {"prompt": "make it night", "images": [{"image_url": url}], **body}
    return {"custom_id": id, "method": "POST", "url": "/v1/images/edits", "body": body}


def planned(plan: pa.Table) -> list[PlannedRow]:
    return from_table(PlannedRow, plan)


def options(plan: pa.Table) -> list[EditOptions]:
    return [row.edit_options(POCKET) for row in planned(plan)]


def fault(row: PlannedRow) -> EngineError:
    """What is known to be wrong with a row before anything is decoded."""
    with pytest.raises(EngineError) as raised:
        row.edit_options(POCKET)
    return raised.value


def write_lines(path: Path, lines: list[Any]) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def data_url(data: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def embedded(plan: pa.Table) -> dict[int, bytes | None]:
    """The images that a manifest holds, by row."""
    places = [row.place for row in planned(plan)]
    return {row: found.image for row, found in read_embedded(places)}


def embedded_masks(plan: pa.Table) -> dict[int, bytes | None]:
    """The masks that a manifest holds, by row."""
    places = [row.mask_place for row in planned(plan)]
    return {row: found.mask for row, found in read_embedded(places)}
