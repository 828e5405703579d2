"""Which rows of a plan are left to edit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from batch_jobs.config import JobConfig
from batch_jobs.ledger.entry import Entry, to_ledger
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.remaining import KNOWN_COLUMNS, Remaining, rows_to_edit
from storage.storage import Storage

ALL = JobConfig(retry="all")


def plan_of(ids: list[str], prints: list[str]) -> pa.Table:
    """Rows of no chain."""
    chain_id, turn = pa.nulls(len(ids), pa.string()), pa.nulls(len(ids), pa.int64())
    return pa.table({"id": ids, "fingerprint": prints, "chain_id": chain_id, "turn": turn})


def failed(id: str, attempts: int) -> Entry:
    code = "image_not_found"
    return Entry(id, status="error", error_code=code, attempts=attempts, fingerprint="f")


def test_what_failed_in_this_retry_is_not_tried_a_second_time(tmp_path: Path) -> None:
    book = Ledger(Storage(str(tmp_path)))
    book.append(to_ledger(failed(id, attempts=1) for id in ("before", "other")))
    since = datetime.now(UTC)
    book.append(to_ledger([failed("since", attempts=2)]))
    known = book.read(KNOWN_COLUMNS, placed=True)
    plan = plan_of(["before", "other", "since", "new"], ["f"] * 4)

    def ids(config: JobConfig, since: datetime) -> dict[str, int]:
        todo = rows_to_edit(plan, known, config, since)
        return dict(zip(todo["id"].to_pylist(), todo["attempts"].to_pylist(), strict=True))

    assert ids(ALL, since) == {"before": 2, "other": 2, "new": 1}
    assert ids(ALL, since + timedelta(minutes=1)).keys() == {"before", "other", "since", "new"}
    assert ids(JobConfig(), since) == {"new": 1}
    assert ids(JobConfig(retry="image_too_large"), since) == {"new": 1}


def test_the_table_of_rows_to_edit_is_true(tmp_path: Path) -> None:
    book = Ledger(Storage(str(tmp_path)))
    book.append(to_ledger([*(Entry(id, fingerprint="f1") for id in "bcgg"), failed("d", 1)]))
    since = datetime.now(UTC)
    book.append(to_ledger([failed("e", 2), Entry("gone", fingerprint="f1")]))
    plan = plan_of(list("abcdeg"), ["f1", "f1", "f2", "f", "f", "f1"])
    left = Remaining.of(plan, book.read(KNOWN_COLUMNS, placed=True), ALL, since)
    attempts = dict(
        zip(left.todo["id"].to_pylist(), left.todo["attempts"].to_pylist(), strict=True)
    )
    assert attempts == {"a": 1, "c": 2, "d": 2, "g": 2}
    assert sorted(left.outdated["id"].to_pylist()) == ["c", "d", "g", "g", "gone"]
    assert left.changed == 1
