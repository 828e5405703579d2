"""The job: plan, run, finish. The driver alone writes the ledger."""

from __future__ import annotations

import json
import logging
import platform
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Self

import pyarrow.compute as pc

import engine
from batch_jobs.config import JobConfig
from batch_jobs.editing import RunFacts, edit_rows
from batch_jobs.job_plan import JobPlan
from batch_jobs.ledger.commit_buffer import CommitBuffer
from batch_jobs.ledger.fingerprint import digest
from batch_jobs.ledger.layout import JOB, SUCCESS, read_job
from batch_jobs.ledger.lease import Lease
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.leftovers import prune
from batch_jobs.ledger.previous_run import PreviousRun
from batch_jobs.ledger.remaining import KNOWN_COLUMNS, Remaining, left_behind, not_among
from batch_jobs.ledger.turns import with_sources
from batch_jobs.report import page as report
from batch_jobs.stages import crash_journal
from batch_jobs.stages.context import BlockContext
from batch_jobs.stages.run import EDITS, BlockRun, RunBlocks, Work
from batch_jobs.stopping import Exit
from engine.counted import counted
from engine.errors import ClusterUnavailable, InternalError, OutputBusy
from engine.spec import ModelSpec
from storage.storage import Storage

logger = logging.getLogger(__name__)


def over_ray(address: str | None = None) -> RunBlocks:
    """Run blocks on the Ray at `address`, or on one of this process: a job with nothing left to do
    never imports it."""

    def run_blocks(run: BlockRun) -> Any:
        from batch_jobs.stages.pipeline import edited_entries

        return edited_entries(run, address)

    return run_blocks


@dataclass(frozen=True, slots=True)
class Job:
    """Edits one manifest into one output folder; running it again resumes it."""

    plan: JobPlan
    storage: Storage  # the output folder
    run_blocks: RunBlocks  # where the rows are edited
    work: Work = EDITS
    conclude: Callable[[Ledger], None] | None = None  # of results that are all there

    @classmethod
    def open(
        cls,
        manifest: str,
        output: str,
        config: JobConfig,
        *,
        spec: ModelSpec | None = None,
        run_blocks: RunBlocks | None = None,
    ) -> Self:
        """Read what there is; nothing is written. See `JobPlan.make`.

        Raises `RequestError` (`OutputUnusable` among them) and `ModelError`.
        """
        storage = Storage.open(output)
        plan = JobPlan.make(manifest, config, PreviousRun(storage), spec)
        return cls(plan, storage, run_blocks or over_ray())

    @property
    def ledger(self) -> Ledger:
        """Read and write the results so far."""
        return Ledger(self.storage)

    def run(self) -> Exit:
        """Edit every row that is not done.

        Raises `OutputBusy`, `OutputUnusable` where the output is another manifest's or cannot be
        made, and `OptionInvalid` for a retry with other settings.
        """
        self.storage.make()
        try:
            if not len(self.remaining(PreviousRun(self.storage)).todo) and self._is_finished():
                if self.plan.config.prune:
                    with Lease(self.storage):
                        self._prune()
                return Exit(self.success()["exit_code"])
            with Lease(self.storage) as lease:
                return self._run(lease)
        except (OSError, InternalError, ClusterUnavailable) as error:
            message = "%s: stopped: %s; what is done is kept, run it again to go on"
            logger.error(message, self.storage.url, error)
            return Exit.STOPPED

    def success(self) -> dict[str, Any]:
        """Read counts and exit code of a finished job, as `_SUCCESS` holds them."""
        return json.loads(self.storage.read(SUCCESS))

    def remaining(self, previous: PreviousRun) -> Remaining:
        """Compare the plan with the ledger as it is now; raises `OutputUnusable`, and
        `OptionInvalid` for a retry with other settings."""
        known = self.ledger.read(KNOWN_COLUMNS, placed=True)
        plan = self.plan
        if len(known):
            stale = not_among(known, plan.rows["id"])
            previous.check(plan.manifest, plan.rows, stale, plan.reading)
        since = previous.retry_since(plan.config)
        left = Remaining.of(plan.rows, known, plan.config, since, plan.only)
        previous.check_retry(self._settings(), left.others_changed)
        return left

    def _settings(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "model": plan.spec.name,
            "source": plan.spec.source,
            "revision": plan.revision,
            "spec": plan.spec.identity(),
            "config": plan.config.model_dump(),
        }

    def _is_finished(self) -> bool:
        done = self.storage.exists(SUCCESS) and self.success().get("digest")
        return bool(done) and done == digest(self.plan.rows)

    def _run(self, lease: Lease) -> Exit:
        previous = PreviousRun(self.storage)  # the last holder may have gone on until now
        left = self.remaining(previous)
        self._begin(previous, left)
        facts = None
        try:
            if len(left.todo):
                edited = self._edit(left, lease)
                if isinstance(edited, Exit):
                    return edited
                facts = edited
            lease.check()
        except OutputBusy as error:
            raise InternalError(error.message) from error
        if left.others:
            return self._end_retry(left)
        self.ledger.remove(not_among(left.outdated, self.plan.rows["id"]))
        if self.conclude is not None:
            self.conclude(self.ledger)
        code = self._finish(facts)
        if self.plan.config.prune:
            self._prune()
        elif behind := left_behind(self.plan.rows, left.outdated):
            logger.warning(
                "the pictures of %s that changed or left the manifest stay in images/: --prune "
                "removes them",
                counted(behind, "row"),
            )
        return code

    def _begin(self, previous: PreviousRun, left: Remaining) -> None:
        plan = self.plan
        job = {
            "manifest": plan.manifest,
            "rows": len(plan.rows),
            "rows_to_edit": len(left.todo),
            **self._settings(),
            "fingerprint_recipe": plan.recipe,
            "retry_since": left.since.isoformat(),
            "rayedit": engine.__version__,
            "started_at": datetime.now(UTC).isoformat(),
        }
        previous.warn_of_reruns(job, left.changed)
        self.storage.publish(JOB, json.dumps(job, indent=2).encode())
        for path in (SUCCESS, *self.storage.list(crash_journal.FOLDER)):
            self.storage.remove(path)

    def _prune(self) -> None:
        if removed := prune(self.storage):
            logger.warning("removed %s that no row names", counted(removed, "file"))

    def _end_retry(self, left: Remaining) -> Exit:
        """End a retry beside which rows of the manifest are left; the next one begins anew."""
        job = read_job(self.storage) | {"retry_since": None}
        self.storage.publish(JOB, json.dumps(job, indent=2).encode())
        message = "%d rows beside those of %s are left: the same command without --retry edits them"
        logger.warning(message, left.others, self.plan.config.retry)
        return Exit.STOPPED

    def _edit(self, left: Remaining, lease: Lease) -> RunFacts | Exit:
        size = self.plan.config.commit_rows(len(left.todo))
        commits = CommitBuffer(self.ledger, size, lease.check, left.outdated)
        return edit_rows(self.block_run(left), self.run_blocks, commits)

    def block_run(self, left: Remaining) -> BlockRun:
        """Make what the stages need for the rows that are left."""
        plan = self.plan
        context = BlockContext.of(plan.manifest, plan.config, plan.spec)
        todo = with_sources(left.todo, self.storage)
        row_s = self._row_s(left)
        return BlockRun(todo, plan.config, context, self.storage, row_s, left.failed, self.work)

    def _row_s(self, left: Remaining) -> float | None:
        """Tell what a row has cost one worker so far, in seconds; None before the first one."""
        known = self.ledger.read(["id", "model_s", "batch_size"])
        known = not_among(known, left.outdated["id"])
        return pc.mean(pc.divide(known["model_s"], known["batch_size"])).as_py()

    def _finish(self, facts: RunFacts | None) -> Exit:
        results = self.ledger.read(report.COLUMNS)
        planned = digest(self.plan.rows)
        if digest(results) != planned:
            raise InternalError("the ledger does not hold each row once: another job wrote to it")
        counts = Counter(results["status"].to_pylist())
        code = Exit.FAILED_ROWS if counts["error"] else Exit.OK
        config = self.plan.config if facts is None else facts.config
        told = {} if facts is None else facts.told()
        told |= {"config": config.model_dump(), "versions": _versions()}
        told["settings"] = config.model_dump(exclude_defaults=True)
        report.write_report(self.storage, results, self.plan.manifest, told)
        success = {
            "rows": len(results),
            "ok": counts["ok"],
            "error": counts["error"],
            "errors": Counter(results["error_code"].drop_null().to_pylist()),
            "exit_code": code,
            "digest": planned,
            "finished_at": datetime.now(UTC).isoformat(),
        }
        self.storage.publish(SUCCESS, json.dumps(success, indent=2).encode())
        return code


def _versions() -> dict[str, str]:
    packages = ("rayedit", "ray", "torch", "diffusers", "transformers", "pillow", "pyarrow")
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # run from a checkout
            found[name] = engine.__version__ if name == "rayedit" else "missing"
    return found
