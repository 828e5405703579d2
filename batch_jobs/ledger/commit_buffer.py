"""Rows on their way into the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

import pyarrow as pa

from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.remaining import among

COMMIT_S = 30.0  # rows wait no longer than about that: slow ones are dear


class CommitBuffer:
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
        self._pending: list[pa.Table] = []
        self._committed_s = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._commit()

    def add(self, rows: pa.Table) -> None:
        """Take rows of the ledger (`SCHEMA`), and commit what waits if it is enough."""
        self._pending.append(rows)
        waited_s = time.monotonic() - self._committed_s
        if sum(map(len, self._pending)) >= self._rows or waited_s > COMMIT_S:
            self._commit()

    def _commit(self) -> None:
        if not self._pending:
            return
        self._check()
        rows, self._pending = pa.concat_tables(self._pending), []
        self._ledger.remove(among(self._outdated, rows["id"]))
        self._ledger.append(rows)
        self._committed_s = time.monotonic()
