"""A run over the rows that are left: until they are done, too many fail, or it is asked to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from batch_jobs.budget import ErrorBudget
from batch_jobs.config import JobConfig
from batch_jobs.ledger.commit_buffer import CommitBuffer
from batch_jobs.progress import JobProgress
from batch_jobs.stages.run import BlockRun, RunBlocks
from batch_jobs.stopping import Exit, StopSignals


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Says what a run did, as the report tells it."""

    config: JobConfig  # with the workers and threads that it ran with
    elapsed_s: float
    begin_s: float  # until editing began: Ray starts, and the model is loaded
    editing_s: float
    rows: int  # done in that time, failed ones included
    images: int
    images_per_s: float
    speed: list[tuple[float, float]]  # (seconds since editing began, images/s)

    def told(self) -> dict[str, Any]:
        """Return the facts as report.json has them."""
        run = {
            name: getattr(self, name)
            for name in ("rows", "images", "begin_s", "editing_s", "images_per_s")
        }
        return {
            "images_per_s": self.images_per_s,
            "elapsed_s": self.elapsed_s,
            "speed": self.speed,
            "run": run,
        }


def edit_rows(run: BlockRun, run_blocks: RunBlocks, commits: CommitBuffer) -> RunFacts | Exit:
    """Edit and commit the rows of a run; returns how it ended where some are left."""
    progress = JobProgress(len(run.todo))
    budget = ErrorBudget(run.config, len(run.todo))
    config, is_spent = run.config, False
    with StopSignals() as stop, run_blocks(run) as edited, progress, commits:
        stop.listen()  # `ray.init` takes the signals
        config = edited.config
        progress.workers = config.max_workers or 1
        for entries in edited.entries:
            commits.add(entries)
            failed = pc.sum(pc.equal(entries["status"], "error")).as_py() or 0
            images = pc.sum(pc.list_value_length(entries["outputs"])).as_py() or 0
            progress.add(len(entries), failed, images)
            is_spent = budget.is_spent(entries)
            if is_spent or stop.exit is not None:
                break
        stop.arrived()
    if stop.exit is not None:
        return stop.exit
    if is_spent:
        return Exit.STOPPED
    return RunFacts(
        config,
        elapsed_s=round(progress.elapsed_s, 1),
        begin_s=round(progress.begin_s, 1),
        editing_s=round(progress.editing_s, 1),
        rows=progress.done,
        images=progress.images,
        images_per_s=round(progress.images_per_s, 3),
        speed=progress.speed_over_time(),
    )
