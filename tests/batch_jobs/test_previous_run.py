"""What a run takes over from the one before it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from batch_jobs.config import JobConfig
from batch_jobs.ledger.layout import JOB, SUCCESS
from batch_jobs.ledger.previous_run import PreviousRun
from engine.catalogue import MODELS
from engine.spec import ModelSpec
from storage.storage import Storage

ALL = JobConfig(retry="all")


def left(folder: Path, **told: Any) -> PreviousRun:
    """What a run left that told so much in its `job.json`."""
    storage = Storage(str(folder))
    storage.publish(JOB, json.dumps(told).encode())
    return PreviousRun(storage)


def hub_model() -> ModelSpec:
    return replace(MODELS["instruct-pix2pix"], source="nobody/nothing")


def test_a_job_keeps_the_revision_of_its_model_when_the_hub_moves_on(tmp_path: Path) -> None:
    before = left(tmp_path, source="nobody/nothing", revision="abc")
    assert before.revision(hub_model()) == "abc"  # nobody asks the hub, which has no such model


def test_a_retry_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    since = datetime(2026, 11, 1, tzinfo=UTC)
    told = {"config": {"retry": "all"}, "retry_since": since.isoformat()}
    assert left(tmp_path, **told).retry_since(ALL) == since
    assert left(tmp_path, **told).retry_since(JobConfig(retry="image_not_found")) > since
    (tmp_path / SUCCESS).write_text("{}")  # it was done: the next one begins anew
    assert left(tmp_path, **told).retry_since(ALL) > since


def test_who_changes_a_setting_is_told_what_it_costs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"seed": 0, "engine": {}, "check_sources": False}
    before = left(tmp_path, model="pocket", revision="a", config=config)
    before.warn_of_reruns({"model": "pocket", "revision": "a", "config": config}, 0)
    assert not caplog.text
    before.warn_of_reruns({"model": "pocket", "revision": "b", "config": {**config, "seed": 1}}, 12)
    assert "12 finished rows will be edited again" in caplog.text
    assert caplog.text.strip().endswith("revision, seed changed")
