"""Rows on their way into the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.ledger.ledger import Ledger

COMMIT_S = 30.0  # rows wait no longer than about that: slow ones are dear


class Commits:
    """Commits rows in parts and at the end. A part is half of `rows_per_commit`, as the other half
    is under way in the workers, or what `COMMIT_S` brought."""

    def __init__(
        self,
        ledger: Ledger,
        rows_per_commit: int,
        check: Callable[[], None],
        outdated: pa.Table,
    ) -> None:
        """`check` raises where these rows may not be written any more; `outdated`: the rows of the
        ledger (`id`, `PART`) that leave it when what was edited in their place comes."""
        self._ledger = ledger
        self._check = check
        self._rows = max(rows_per_commit // 2, 1)
        self._outdated = outdated
        self._pending: list[dict[str, Any]] = []
        self._committed_s = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._commit()

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        self._pending += rows
        waited_s = time.monotonic() - self._committed_s
        if len(self._pending) >= self._rows or waited_s > COMMIT_S:
            self._commit()

    def _commit(self) -> None:
        if not self._pending:
            return
        self._check()
        rows, self._pending = self._pending, []
        ids = pa.array([row["id"] for row in rows], pa.string())
        self._ledger.remove(self._outdated.filter(pc.is_in(self._outdated["id"], ids)))
        self._ledger.append(rows)
        self._committed_s = time.monotonic()
