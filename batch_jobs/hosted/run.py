"""The job of a batch, from its order to its files: run again, it goes on where it was."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from batch_jobs.config import JobConfig
from batch_jobs.hosted.lines import CheckedLines, check_lines
from batch_jobs.hosted.outcome import Outcome
from batch_jobs.hosted.watch import WATCH_EVERY_S, Reason, Stopped, Watch
from batch_jobs.job import Job
from batch_jobs.ledger.lease import Lease
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.stages.run import RunBlocks
from batch_jobs.stopping import Exit
from engine.errors import (
    InternalError,
    ManifestInvalid,
    ModelUnknown,
    OptionError,
    OutputUnusable,
)
from engine.fields import validate
from engine.spec import ModelSpec
from storage.batch_store import BatchOrder, BatchState, BatchStore, Fault
from storage.file_store import FileStore, StoredFile
from storage.storage import Storage

FINISHED = (Exit.OK, Exit.FAILED_ROWS)


def run_batch(
    batches: BatchStore,
    id: str,
    *,
    spec: ModelSpec | None = None,
    run_blocks: RunBlocks | None = None,
    watch_every_s: float = WATCH_EVERY_S,
) -> Exit:
    """Do a batch, or what is left of it. `spec`, `run_blocks`: of `Job.open`.

    Returns `Exit.OK` when the batch is over, whatever came of it; otherwise it is to be run again.
    Raises `OutputBusy` where its job runs already, `OutputUnusable` where there is no such batch,
    and any `EngineError` and `OSError` after which it is to be run again too.
    """
    order = batches.order(id)
    if order is None:
        raise OutputUnusable(f"there is no batch {id} at {batches.storage.url}")
    with Lease(batches.folder(id)):
        how = {"spec": spec, "run_blocks": run_blocks}
        return _Run(batches, order, batches.state(id), how).go(watch_every_s)


@dataclass(slots=True)
class _Run:
    """Does one batch, under its lease."""

    batches: BatchStore
    order: BatchOrder
    state: BatchState
    how: dict[str, Any]  # of `Job.open`
    parts: list[str] = field(default_factory=list)  # of the ledger that the counts are of

    @property
    def files(self) -> FileStore:
        return self.batches.files

    @property
    def job(self) -> Storage:
        """The output of the job."""
        return self.batches.folder(self.order.id, "job")

    def go(self, watch_every_s: float) -> Exit:
        reason: Reason | None = None
        code = Exit.OK
        if not self.state.is_over:
            watch = Watch(self.batches, self.order, self._count, watch_every_s)
            try:
                with watch:
                    code = self._until_edited(watch)
            except Stopped:
                code = Exit.TERMINATED
            reason = watch.reason
        if not self.state.is_over:
            if code not in FINISHED and reason is None:
                return code
            self._finish(reason)
        self.batches.close(self.order.id)
        return Exit.OK

    def _until_edited(self, watch: Watch) -> Exit:
        """Check the lines, then edit them; a fault of all of them ends the batch. Any other error
        may pass: as long as the batch has time, its job is started again."""
        try:
            if self.state.status == "validating" and watch.reason is None:
                self._validate()
            if self.state.status == "in_progress" and watch.reason is None:
                return self._edit()
        except (OptionError, ModelUnknown, ManifestInvalid) as error:
            self._fail([Fault(error.code, error.message, param=error.param)])
        return Exit.OK

    def _validate(self) -> None:
        checked = self._lines()
        if checked.faults:
            self._fail(checked.faults)
            return
        self.state.total = len(checked.ids)
        self.state.model = checked.model or self.order.model
        self.state.status, self.state.in_progress_at = "in_progress", self._now()
        self._tell()

    def _edit(self) -> Exit:
        model = self.state.model or self.order.model
        settings = {
            **self.order.jobs[model],
            "image_base": self.files.data_uri,
            "file_ids": True,
            "aliases": [said for said, meant in self.order.names.items() if meant == model],
            "max_error_rate": 1.0,  # how many fail is for its owner to judge
        }
        config = validate(JobConfig, settings, strict=False)
        manifest = f"{self.files.data_uri}/{self._input().name}"
        try:
            return Job.open(manifest, self.job.url, config, **self.how).run()
        except ManifestInvalid as error:  # its lines were in order: storage fails
            raise InternalError(error.message) from error

    def _finish(self, reason: Reason | None) -> None:
        """Write what was made, then that the batch is over; done again, it makes the same."""
        state = self.state
        outcome = Outcome.of(self.order, state.model, self.files, self.job)
        state.completed, state.failed = outcome.counts
        if state.completed + state.failed == state.total > 0:
            reason = None  # all is done all the same
        state.status, state.finalizing_at = "finalizing", state.finalizing_at or self._now()
        self._tell()
        state.output_file_id = outcome.write_answers()
        asked = self._asked() if reason is not None and state.total else []
        state.error_file_id = outcome.write_errors(asked, reason)
        state.status = reason or "completed"
        setattr(state, f"{state.status}_at", self._now())
        self._tell()

    def _fail(self, faults: list[Fault]) -> None:
        self.state.errors = [asdict(fault) for fault in faults]
        self.state.status, self.state.failed_at = "failed", self._now()
        self._tell()

    def _count(self) -> None:
        """Tell how many lines are done, where that has changed; called from another thread, and
        only while this one edits."""
        if self.state.status != "in_progress":
            return
        parts = self.job.list("results")
        if parts == self.parts:
            return
        statuses = Ledger(self.job).read(["status"])["status"].to_pylist()
        self.parts = parts
        self.state.completed = statuses.count("ok")
        self.state.failed = statuses.count("error")
        self._tell()

    def _input(self) -> StoredFile:
        file = self.files.find(self.order.input_file_id)
        if file is None:
            raise ManifestInvalid("the input file has been removed", param="input_file_id")
        return file

    def _lines(self) -> CheckedLines:
        return check_lines(self.files.read(self._input()), self.order.names)

    def _asked(self) -> list[str]:
        """List the ids of all lines, none where the input was removed."""
        try:
            return self._lines().ids
        except ManifestInvalid:
            return []

    def _now(self) -> int:
        return int(self.batches.clock())

    def _tell(self) -> None:
        self.batches.tell(self.order.id, self.state)
