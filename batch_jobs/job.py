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
from batch_jobs import journal, report
from batch_jobs.config import JobConfig
from batch_jobs.lease import Lease
from batch_jobs.ledger import (
    Commits,
    Ledger,
    digest,
    engine_identity,
    is_repeated,
    keys,
    with_fingerprints,
)
from batch_jobs.manifest import base_of, has_relative, read_manifest
from batch_jobs.progress import JobProgress
from batch_jobs.source_states import source_states
from batch_jobs.stopping import StopSignals
from batch_jobs.storage import Storage
from engine.errors import InternalError, OutputBusy, OutputUnusable
from engine.registry import ModelSpec, find_model
from engine.weights import find_revision

logger = logging.getLogger(__name__)

OK, REFUSED, FAILED_ROWS, STOPPED = 0, 2, 3, 4
SUCCESS, JOB = "_SUCCESS", "job.json"


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
        self.manifest = manifest if "://" in manifest else os.path.abspath(manifest)
        self.config = config
        self.storage = Storage.open(output)
        self.ledger = Ledger(self.storage)
        spec = spec or find_model(config.engine.model, config.engine.resolution)
        revision = find_revision(spec)
        # every worker loads the revision that the fingerprints are of
        self.spec = spec if os.path.isdir(spec.source) else replace(spec, revision=revision)
        identity = engine_identity(self.spec, revision, config.engine)
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
        except (OSError, InternalError) as error:
            message = "%s: stopped: %s; what is done is kept, run it again to go on"
            logger.error(message, self.storage.url, error)
            return STOPPED

    def _run(self, lease: Lease) -> int:
        todo, outdated = self.todo()  # the former holder may have gone on until now
        self._begin(len(todo))
        try:
            code, facts = self._edit(todo, outdated, lease)
            lease.check()
        except OutputBusy as error:
            raise InternalError(error.message) from error
        return self._finish(facts) if code == OK else code

    def success(self) -> dict[str, Any]:
        """Counts and exit code of a finished job, as `_SUCCESS` holds them."""
        return json.loads(self.storage.read(SUCCESS))

    def _is_finished(self) -> bool:
        return self.storage.exists(SUCCESS) and self.success().get("digest") == digest(self.plan)

    def todo(self) -> tuple[pa.Table, set[str]]:
        """(rows to edit, ids whose ledger rows must go before): what the ledger holds once with the
        same fingerprint is not edited again, unless it failed and is to be retried; what has left
        the manifest leaves the ledger. Raises `OutputUnusable`."""
        known = self.ledger.read(["id", "fingerprint", "status", "error_code", "attempts"])
        stale = known.filter(pc.invert(pc.is_in(known["id"], self.plan["id"].combine_chunks())))
        if len(known):
            self._refuse_anothers(stale["id"])
        done = known.filter(pc.invert(pc.or_(self._to_retry(known), is_repeated(known["id"]))))
        todo = self.plan.filter(pc.invert(pc.is_in(keys(self.plan), keys(done))))
        place = pc.index_in(todo["id"], value_set=known["id"].combine_chunks()).combine_chunks()
        before = pc.fill_null(known["attempts"].combine_chunks().take(place), 0)
        outdated = [*stale["id"].to_pylist(), *todo.filter(pc.is_valid(place))["id"].to_pylist()]
        return todo.append_column("attempts", pc.add(before, 1)), set(outdated)

    def _refuse_anothers(self, stale: pa.ChunkedArray) -> None:
        job = json.loads(self.storage.read(JOB)) if self.storage.exists(JOB) else {}
        former = job.get("manifest")
        if former == self.manifest:
            return
        if len(stale):
            raise OutputUnusable(
                f"{self.storage.url} holds {len(stale)} rows of another manifest, such as "
                f"{stale[0]}: give another output"
            )
        moved = former is not None and base_of(former) != base_of(self.manifest)
        if moved and has_relative(self.plan["image"]):
            raise OutputUnusable(
                f"{self.storage.url} holds edits of the images beside {former}, not of those "
                f"beside {self.manifest}: give another output; if they are the same ones, only "
                f'moved, correct "manifest" in {self.storage.uri(JOB)}'
            )

    def _to_retry(self, known: pa.Table) -> pa.ChunkedArray:
        failed = pc.equal(known["status"], "error")
        if self.config.retry is None:
            return pc.and_(failed, False)
        if self.config.retry == "all":
            return failed
        return pc.fill_null(pc.equal(known["error_code"], self.config.retry), False)

    def _begin(self, todo: int) -> None:
        for path in (SUCCESS, *self.storage.list(journal.FOLDER)):
            self.storage.remove(path)
        job = {
            "manifest": self.manifest,
            "rows": len(self.plan),
            "rows_to_edit": todo,
            "model": self.spec.name,
            "config": self.config.model_dump(),
            "rayedit": engine.__version__,
            "started_at": datetime.now(UTC).isoformat(),
        }
        self.storage.publish(JOB, json.dumps(job, indent=2).encode())

    def _edit(self, todo: pa.Table, outdated: set[str], lease: Lease) -> tuple[int, dict[str, Any]]:
        """(exit code so far, what the report says of this run)."""
        if not len(todo):
            lease.check()
            self.ledger.remove(outdated)
            return OK, {}
        from batch_jobs.pipeline import edited_entries, ray_cluster

        settings = (self.config, self.spec, base_of(self.manifest), self.storage)
        commits = Commits(self.ledger, self.config.rows_per_commit, lease.check, outdated)
        progress = JobProgress(len(todo))
        with StopSignals() as stop, ray_cluster(self._address), progress, commits:
            stop.listen()
            for entries in edited_entries(todo, *settings, self._row_s(outdated)):
                commits.add(entries)
                failed = sum(entry["status"] == "error" for entry in entries)
                images = sum(len(entry.get("outputs") or ()) for entry in entries)
                progress.add(len(entries), failed, images)
                if stop.exit_code is not None:
                    break
                if self._over_budget(progress):
                    return STOPPED, {}
            stop.arrived()
        if stop.exit_code is not None:
            return stop.exit_code, {}
        facts = {
            "images_per_s": round(progress.images_per_s, 3),
            "elapsed_s": round(progress.elapsed_s, 1),
            "speed": progress.speed_over_time(),
        }
        return OK, facts

    def _row_s(self, outdated: set[str]) -> float | None:
        """What a row has cost one worker so far, in seconds; None before the first one."""
        known = self.ledger.read(["id", "model_s", "batch_size"])
        known = known.filter(pc.invert(pc.is_in(known["id"], pa.array(outdated, pa.string()))))
        return pc.mean(pc.divide(known["model_s"], known["batch_size"])).as_py()

    def _over_budget(self, progress: JobProgress) -> bool:
        config = self.config
        if progress.done < config.min_rows_for_error_rate or progress.done == progress.total:
            return False
        if progress.failed <= config.max_error_rate * progress.done:
            return False
        logger.error(
            "stopped: %d of %d rows failed, more than --max-error-rate %g; what is done is kept, "
            "and the same command goes on",
            progress.failed,
            progress.done,
            config.max_error_rate,
        )
        return True

    def _finish(self, facts: dict[str, Any]) -> int:
        results = self.ledger.read(report.COLUMNS)
        planned = digest(self.plan)
        if digest(results) != planned:
            raise InternalError("the ledger does not hold each row once: another job wrote to it")
        counts = Counter(results["status"].to_pylist())
        code = FAILED_ROWS if counts["error"] else OK
        facts |= {"config": self.config.model_dump(), "versions": _versions()}
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
