"""When so many rows fail that something must be wrong with all of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from batch_jobs.config import JobConfig

logger = logging.getLogger(__name__)


class ErrorBudget:
    """Counts the rows of a run, and those that failed. Who asks for a retry knows that rows may
    fail again: these do not count."""

    def __init__(self, config: JobConfig, total: int) -> None:
        self._config, self._total = config, total
        self._done = self._failed = 0

    def is_spent(self, entries: Iterable[dict[str, Any]]) -> bool:
        """Whether the job must stop, with these ledger rows; it says so in the log then."""
        for entry in entries:
            self._done += 1
            again = self._config.retry is not None and entry["attempts"] > 1
            self._failed += entry["status"] == "error" and not again
        if not self._config.min_rows_for_error_rate <= self._done < self._total:
            return False
        if self._failed <= self._config.max_error_rate * self._done:
            return False
        logger.error(
            "stopped: %d of %d rows failed, more than --max-error-rate %g; what is done is kept, "
            "and the same command goes on",
            self._failed,
            self._done,
            self._config.max_error_rate,
        )
        return True
