"""A run of the stages over the rows that are left: what it is given, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from batch_jobs.config import JobConfig
from batch_jobs.ledger.turns import FailedTurn
from batch_jobs.stages.context import BlockContext
from batch_jobs.stages.crash_journal import Journal
from batch_jobs.stages.edit import EditWorker
from storage.storage import Storage


@dataclass(frozen=True, slots=True)
class Work:
    """Says who works on the blocks, and what each worker is told beside model and journal."""

    worker: type[EditWorker] = EditWorker
    told: tuple[Any, ...] = ()


EDITS = Work()


@dataclass(frozen=True, slots=True)
class BlockRun:
    """Says what the stages are to do."""

    todo: pa.Table  # the rows to edit, as `PlannedRow`
    config: JobConfig
    context: BlockContext
    storage: Storage  # where the images go
    row_s: float | None = None  # seconds of one worker that a row has cost so far
    # chain_id -> the turn at which it has stopped, before this run
    failed: Mapping[str, FailedTurn] = field(default_factory=dict)
    work: Work = EDITS

    def worker_arguments(self, journal: Journal) -> tuple[Any, ...]:
        """List what `work.worker` is made with."""
        return (self.config.engine, self.context.spec, journal, *self.work.told)


@dataclass(frozen=True, slots=True)
class EditedBlocks:
    """Says what the stages do."""

    config: JobConfig  # with the workers and threads that they run with
    entries: Iterator[pa.Table]  # ledger rows, block by block as they are done, in any order


# Edits the blocks of a run for the length of a `with` block: over Ray, or in this process.
RunBlocks = Callable[[BlockRun], AbstractContextManager[EditedBlocks]]
