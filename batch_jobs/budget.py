"""When so many rows fail that something must be wrong with all of them."""

from __future__ import annotations

import logging

import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.config import JobConfig
from engine.errors import PreviousTurnFailed

logger = logging.getLogger(__name__)


class ErrorBudget:
    """Counts the rows of a run, and those that failed. Who asks for a retry knows that rows may
    fail again: these do not count, nor do turns that only followed one that failed."""

    def __init__(self, config: JobConfig, total: int) -> None:
        self._config, self._total = config, total
        self._done = self._failed = 0

    def is_spent(self, entries: pa.Table) -> bool:
        """Count ledger rows; tells whether the job must stop, and why in the log."""
        failed = entries.filter(pc.equal(entries["status"], "error"))
        followed = pc.equal(failed["error_code"], PreviousTurnFailed.code)
        failed = failed.filter(pc.invert(followed))
        if self._config.retry is not None:
            failed = failed.filter(pc.less_equal(failed["attempts"], 1))
        self._done += len(entries)
        self._failed += len(failed)
        if not self._config.min_rows_for_error_rate <= self._done < self._total:
            return False
        if self._failed <= self._config.max_error_rate * self._done:
            return False
        logger.error(
            "stopped: %d of %d rows failed, more than --max-error-rate %g; `rayedit status OUTPUT "
            "--failed` names them; what is done is kept, and the same command goes on",
            self._failed,
            self._done,
            self._config.max_error_rate,
        )
        return True
