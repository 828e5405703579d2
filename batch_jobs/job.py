"""The job: plan, run, finish. The driver alone writes the ledger."""

from __future__ import annotations

import json
import logging
import os
import platform
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

import engine
from batch_jobs.budget import ErrorBudget
from batch_jobs.config import JobConfig
from batch_jobs.ledger.commit_buffer import Commits
from batch_jobs.ledger.lease import Lease
from batch_jobs.ledger.ledger import Ledger, digest, engine_identity, with_fingerprints
from batch_jobs.ledger.previous_run import (
    JOB,
    KNOWN,
    SUCCESS,
    Former,
    changed_rows,
    not_in,
    rows_to_edit,
)
from batch_jobs.manifest.plan import base_of, read_manifest
from batch_jobs.manifest.source_versions import source_states
from batch_jobs.progress import JobProgress
from batch_jobs.report import page as report
from batch_jobs.stages import crash_journal as journal
from batch_jobs.stopping import StopSignals
from batch_jobs.storage.storage import Storage
from engine.errors import ClusterUnavailable, InternalError, OutputBusy
from engine.registry import ModelSpec, find_model
from storage.location import absolute

logger = logging.getLogger(__name__)

OK, REFUSED, FAILED_ROWS, STOPPED = 0, 2, 3, 4


class Job:
    """One manifest into one output folder; running it again resumes it."""

    def __init__(
        self,
        manifest: str,
        output: str,
        config: JobConfig,
        *,
        address: str | None = None,
        spec: ModelSpec | None = None,
    ) -> None:
        """Raises `RequestError` and `ModelError`; nothing has started then. `address`: a Ray
        cluster; `spec` stands in for `config.engine.model`."""
        self.manifest = absolute(manifest)
        self.config = config
        self.storage = Storage.open(output)
        self.ledger = Ledger(self.storage)
        spec = spec or find_model(config.engine.model, config.engine.resolution)
        self._revision = Former(self.storage).revision(spec)
        # every worker loads the revision that the fingerprints are of
        self.spec = spec if os.path.isdir(spec.source) else replace(spec, revision=self._revision)
        identity = engine_identity(self.spec, self._revision, config.engine)
        plan = read_manifest(manifest)
        states = None
        if config.check_sources:
            states = source_states(plan["image"].to_pylist(), base_of(self.manifest))
        self.plan = with_fingerprints(plan, config.seed, identity, states)
        self._address = address

    def run(self) -> int:
        """Edit every row that is not done; returns the exit code.

        Raises `OutputBusy`, and `OutputUnusable` where the output is another manifest's.
        """
        try:
            if not len(self.todo()[0]) and self._is_finished():
                return int(self.success()["exit_code"])
            with Lease(self.storage) as lease:
                return self._run(lease)
        except (OSError, InternalError, ClusterUnavailable) as error:
            message = "%s: stopped: %s; what is done is kept, run it again to go on"
            logger.error(message, self.storage.url, error)
            return STOPPED

    def _run(self, lease: Lease) -> int:
        todo, outdated = self.todo()  # the former holder may have gone on until now
        self._begin(todo, outdated)
        try:
            code, facts = self._edit(todo, outdated, lease) if len(todo) else (OK, {})
            lease.check()
        except OutputBusy as error:
            raise InternalError(error.message) from error
        if code != OK:
            return code
        self.ledger.remove(not_in(outdated, self.plan["id"]))
        return self._finish(facts)

    def success(self) -> dict[str, Any]:
        """Counts and exit code of a finished job, as `_SUCCESS` holds them."""
        return json.loads(self.storage.read(SUCCESS))

    def _is_finished(self) -> bool:
        return self.storage.exists(SUCCESS) and self.success().get("digest") == digest(self.plan)

    def todo(self) -> tuple[pa.Table, pa.Table]:
        """(rows to edit, rows of the ledger that must go): what the ledger holds once with the same
        fingerprint is not edited again, unless it failed and is to be retried; what has left the
        manifest leaves the ledger. Raises `OutputUnusable`."""
        self._former = Former(self.storage)  # which another may have written until now
        known = self.ledger.read(KNOWN, placed=True)
        if len(known):
            self._former.check(self.manifest, self.plan, not_in(known, self.plan["id"]))
        todo = rows_to_edit(self.plan, known, self.config, self._former.retry_since(self.config))
        kept = not_in(self.plan, todo["id"])
        return todo, not_in(known, kept["id"])

    def _begin(self, todo: pa.Table, outdated: pa.Table) -> None:
        job = {
            "manifest": self.manifest,
            "rows": len(self.plan),
            "rows_to_edit": len(todo),
            "model": self.spec.name,
            "source": self.spec.source,
            "revision": self._revision,
            "spec": self.spec.identity(),
            "retry_since": self._former.retry_since(self.config).isoformat(),
            "config": self.config.model_dump(),
            "rayedit": engine.__version__,
            "started_at": datetime.now(UTC).isoformat(),
        }
        self._former.tell(job, changed_rows(self.plan, outdated))
        self.storage.publish(JOB, json.dumps(job, indent=2).encode())
        for path in (SUCCESS, *self.storage.list(journal.FOLDER)):
            self.storage.remove(path)

    def _edit(self, todo: pa.Table, outdated: pa.Table, lease: Lease) -> tuple[int, dict[str, Any]]:
        """(exit code so far, what the report says of this run)."""
        from batch_jobs.cluster import fitted, ray_cluster
        from batch_jobs.stages.pipeline import edited_entries

        settings = (self.spec, base_of(self.manifest), self.storage)
        size = self.config.commit_rows(len(todo))
        commits = Commits(self.ledger, size, lease.check, outdated)
        progress, budget = JobProgress(len(todo)), ErrorBudget(self.config, len(todo))
        with StopSignals() as stop, ray_cluster(self._address), progress, commits:
            stop.listen()
            config = fitted(self.config, self.spec, len(todo))
            progress.workers = config.max_workers or 1
            for entries in edited_entries(todo, config, *settings, self._row_s(outdated)):
                commits.add(entries)
                failed = sum(entry["status"] == "error" for entry in entries)
                images = sum(len(entry.get("outputs") or ()) for entry in entries)
                progress.add(len(entries), failed, images)
                if stop.exit_code is not None:
                    break
                if budget.is_spent(entries):
                    return STOPPED, {}
            stop.arrived()
        if stop.exit_code is not None:
            return stop.exit_code, {}
        facts = {
            "images_per_s": round(progress.images_per_s, 3),
            "elapsed_s": round(progress.elapsed_s, 1),
            "speed": progress.speed_over_time(),
            "config": config.model_dump(),
        }
        return OK, facts

    def _row_s(self, outdated: pa.Table) -> float | None:
        """What a row has cost one worker so far, in seconds; None before the first one."""
        known = not_in(self.ledger.read(["id", "model_s", "batch_size"]), outdated["id"])
        return pc.mean(pc.divide(known["model_s"], known["batch_size"])).as_py()

    def _finish(self, facts: dict[str, Any]) -> int:
        results = self.ledger.read(report.COLUMNS)
        planned = digest(self.plan)
        if digest(results) != planned:
            raise InternalError("the ledger does not hold each row once: another job wrote to it")
        counts = Counter(results["status"].to_pylist())
        code = FAILED_ROWS if counts["error"] else OK
        facts = {"config": self.config.model_dump(), "versions": _versions(), **facts}
        report.write_report(self.storage, results, self.manifest, facts)
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
