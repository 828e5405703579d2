"""What a run takes over from the one before it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batch_jobs.budget import ErrorBudget
from batch_jobs.config import JobConfig
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.previous_run import JOB, KNOWN, SUCCESS, Former, rows_to_edit
from batch_jobs.storage.storage import Storage
from engine.registry import MODELS, ModelSpec

ALL = JobConfig(retry="all")


def left(folder: Path, **told: Any) -> Former:
    """What a run left that told so much in its `job.json`."""
    storage = Storage(str(folder))
    storage.publish(JOB, json.dumps(told).encode())
    return Former(storage)


def hub_model() -> ModelSpec:
    return replace(MODELS["instruct-pix2pix"], source="nobody/nothing")


def test_a_job_keeps_the_revision_of_its_model_when_the_hub_moves_on(tmp_path: Path) -> None:
    former = left(tmp_path, source="nobody/nothing", revision="abc")
    assert former.revision(hub_model()) == "abc"  # nobody asks the hub, which has no such model


def test_a_retry_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    since = datetime(2026, 11, 1, tzinfo=UTC)
    told = {"config": {"retry": "all"}, "retry_since": since.isoformat()}
    assert left(tmp_path, **told).retry_since(ALL) == since
    assert left(tmp_path, **told).retry_since(JobConfig(retry="image_not_found")) > since
    (tmp_path / SUCCESS).write_text("{}")  # it was done: the next one begins anew
    assert left(tmp_path, **told).retry_since(ALL) > since


def test_what_failed_in_this_retry_is_not_tried_a_second_time(tmp_path: Path) -> None:
    book = Ledger(Storage(str(tmp_path)))
    row = {"fingerprint": "f", "status": "error", "error_code": "image_not_found", "attempts": 1}
    book.append({**row, "id": id} for id in ("before", "other"))
    since = datetime.now(UTC)
    book.append([{**row, "id": "since", "attempts": 2}])
    known = book.read(KNOWN, placed=True)
    plan = pa.table({"id": ["before", "other", "since", "new"], "fingerprint": ["f"] * 4})

    def ids(config: JobConfig, since: datetime) -> dict[str, int]:
        todo = rows_to_edit(plan, known, config, since)
        return dict(zip(todo["id"].to_pylist(), todo["attempts"].to_pylist(), strict=True))

    assert ids(ALL, since) == {"before": 2, "other": 2, "new": 1}
    assert ids(ALL, since + timedelta(minutes=1)).keys() == {"before", "other", "since", "new"}
    assert ids(JobConfig(), since) == {"new": 1}
    assert ids(JobConfig(retry="image_too_large"), since) == {"new": 1}


@pytest.mark.parametrize(("retry", "stops"), [(None, True), ("all", False)])
def test_rows_that_fail_again_in_a_retry_spend_no_budget(retry: str | None, stops: bool) -> None:
    budget = ErrorBudget(JobConfig(retry=retry, min_rows_for_error_rate=4), 100)
    assert not budget.is_spent({"status": "ok", "attempts": 1} for _ in range(9))
    assert budget.is_spent({"status": "error", "attempts": 2} for _ in range(9)) == stops
    assert budget.is_spent({"status": "error", "attempts": 1} for _ in range(9))


def test_who_changes_a_setting_is_told_what_it_costs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"seed": 0, "engine": {}, "check_sources": False}
    former = left(tmp_path, model="pocket", revision="a", config=config)
    former.tell({"model": "pocket", "revision": "a", "config": config}, 0)
    assert not caplog.text
    former.tell({"model": "pocket", "revision": "b", "config": {**config, "seed": 1}}, 12)
    assert "12 rows that are done are edited again" in caplog.text
    assert caplog.text.strip().endswith("revision, seed changed")


def test_a_long_manifest_has_larger_commits() -> None:
    assert JobConfig().commit_rows(200) == 32
    assert JobConfig().commit_rows(1_000_000) == 1954
    assert JobConfig(rows_per_commit=5).commit_rows(1_000_000) == 5
