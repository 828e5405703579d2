"""A job stops when too many rows fail."""

from __future__ import annotations

import pyarrow as pa
import pytest

from batch_jobs.budget import ErrorBudget
from batch_jobs.config import JobConfig


def entries(status: str, attempts: int, code: str = "image_missing") -> pa.Table:
    codes = [None if status == "ok" else code] * 9
    return pa.table({"status": [status] * 9, "error_code": codes, "attempts": [attempts] * 9})


@pytest.mark.parametrize(("retry", "stops"), [(None, True), ("all", False)])
def test_rows_that_fail_again_in_a_retry_spend_no_budget(retry: str | None, stops: bool) -> None:
    budget = ErrorBudget(JobConfig(retry=retry, min_rows_for_error_rate=4), 100)
    assert not budget.is_spent(entries("ok", 1))
    assert budget.is_spent(entries("error", 2)) == stops
    assert budget.is_spent(entries("error", 1))


def test_turns_that_only_followed_one_that_failed_spend_no_budget() -> None:
    budget = ErrorBudget(JobConfig(min_rows_for_error_rate=4), 100)
    assert not budget.is_spent(entries("error", 1, "previous_turn_failed"))
    assert budget.is_spent(entries("error", 1))
