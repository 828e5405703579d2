"""The same stages in this process, one block after the other: for a few rows, and without Ray."""

from __future__ import annotations

import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pyarrow as pa

from batch_jobs.stages.blocks import rows_per_block
from batch_jobs.stages.crash_journal import Journal
from batch_jobs.stages.decode import decode_block
from batch_jobs.stages.edit import EditWorker
from batch_jobs.stages.publish import publish_rows
from batch_jobs.stages.run import BlockRun, EditedBlocks
from batch_jobs.stages.turns import turn_by_turn
from engine.errors import EngineError, InternalError


@contextmanager
def edited_here(run: BlockRun) -> Iterator[EditedBlocks]:
    """Edit the blocks of a run in this process; the model is loaded with the first block.

    The iterator raises `InternalError` where the stages themselves fail, as over Ray.
    """
    with StagesHere(run) as stages:
        yield EditedBlocks(run.config, turn_by_turn(run, lambda turn: _entries(turn, stages)))


def _entries(run: BlockRun, stages: StagesHere) -> Generator[pa.Table]:
    rows = rows_per_block(run.todo, run.config, workers=1, row_s=run.row_s)
    try:
        for start in range(0, len(run.todo), rows):
            block = run.todo.slice(start, rows)
            yield stages.publish(stages.edit(stages.decode(block)))
    except EngineError as error:
        raise InternalError(f"{type(error).__name__}: {error.message}") from error


class StagesHere:
    """Runs each of the three stages when it is called."""

    def __init__(self, run: BlockRun) -> None:
        self._run = run
        self._journal = Journal(run.storage, uuid.uuid4().hex[:8])
        self._worker: EditWorker | None = None

    def __enter__(self) -> StagesHere:
        return self

    def __exit__(self, *_: object) -> None:
        if self._worker is not None:
            self._worker.close()

    def decode(self, block: pa.Table) -> pa.Table:
        """See `decode_block`."""
        return decode_block(block, self._run.context, self._journal)

    def edit(self, decoded: pa.Table) -> pa.Table:
        """See `EditWorker`, or who else does the work; the first call loads the model."""
        if self._worker is None:
            self._worker = self._run.work.worker(*self._run.worker_arguments(self._journal))
        return self._worker(decoded)

    def publish(self, edited: pa.Table) -> pa.Table:
        """See `publish_rows`."""
        config = self._run.config
        files = (config.output_format, config.output_compression, config.metadata)
        return publish_rows(edited, self._run.storage, *files)
