"""The same fingerprint, the same edit; whatever changes a picture changes it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from batch_jobs.ledger.fingerprint import Fingerprints
from batch_jobs.manifest.fault import Fault
from batch_jobs.manifest.planned import PLAN, PlannedRow
from batch_jobs.records import to_table
from engine.config import EngineConfig
from engine.errors import ModelError
from engine.registry import find_model

POCKET = find_model("pocket")
ROW = PlannedRow("m.csv", "a", "x.jpg", None, 0, 1, "add fog", '{"seed": 5}', None, None)


def of(row: PlannedRow = ROW, version: str | None = None, **changes: Any) -> str:
    given = {"spec": POCKET, "revision": "r", "engine": EngineConfig(), "job_seed": 0, **changes}
    plan: pa.Table = to_table(PlannedRow, [row]).select(PLAN.names)
    versions = None if version is None else [version]
    return Fingerprints(**given).add_to(plan, versions)["fingerprint"][0].as_py()


@pytest.mark.parametrize(
    "changes",
    [
        {"row": replace(ROW, instruction="add snow")},
        {"row": replace(ROW, image="y.jpg")},
        {"row": replace(ROW, image=None, image_sha256="0f")},
        {"row": replace(ROW, options='{"seed": 6}')},
        {"row": replace(ROW, model="pocket")},
        {"row": replace(ROW, fault=Fault("option_invalid", "mask", "mask"))},
        {"row": replace(ROW, id="b")},  # its seed comes from it
        {"job_seed": 1},
        {"version": "10 etag"},
        {"revision": "s"},
        {"engine": EngineConfig(determinism="strict")},
        {"spec": replace(POCKET, defaults={**POCKET.defaults, "guidance_scale": 9.0})},
        {"spec": replace(POCKET, max_side=POCKET.max_side * 2)},
    ],
    ids=str,
)
def test_what_changes_a_picture_changes_its_fingerprint(changes: dict[str, Any]) -> None:
    assert of(**changes) != of()


def test_where_things_lie_changes_no_fingerprint() -> None:
    moved = replace(ROW, file="n.csv", row=7)
    assert of(moved) == of(spec=replace(POCKET, source="/elsewhere")) == of()
    assert len(of()) == 32


def test_a_model_that_says_what_cannot_be_written_down_is_refused() -> None:
    with pytest.raises(ModelError, match="not serialisable"):
        of(spec=replace(POCKET, half=object()))
