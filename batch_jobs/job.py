"""The job: plan, run, finish. The driver alone writes the ledger."""

from __future__ import annotations

import json
import logging
import platform
from collections import Counter
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

import engine
from batch_jobs import journal
from batch_jobs.config import JobConfig
from batch_jobs.lease import Lease
from batch_jobs.ledger import Commits, Ledger, fingerprint
from batch_jobs.manifest import base_of, read_manifest
from batch_jobs.progress import JobProgress
from batch_jobs.report import write_report
from batch_jobs.stopping import StopSignals
from batch_jobs.storage import Storage
from engine.errors import InternalError
from engine.registry import ModelSpec, find_model
from engine.seeding import row_seed
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
        self.manifest = manifest
        self.config = config
        self.storage = Storage(output)
        self.ledger = Ledger(self.storage)
        self.spec = spec or find_model(config.engine.model, config.engine.resolution)
        self.plan = self._fingerprinted(read_manifest(manifest), find_revision(self.spec))
        self._address = address

    def run(self) -> int:
        """Edit every row that is not done; returns the exit code. Raises `OutputBusy`."""
        todo, _ = self.todo()
        if not len(todo) and self.storage.exists(SUCCESS):
            return int(self.success()["exit_code"])
        with Lease(self.storage):
            todo, changed = self.todo()  # the former holder may have gone on until now
            self._begin(len(todo))
            self.ledger.remove(changed)
            try:
                code, facts = self._edit(todo)
                return self._finish(facts) if code == OK else code
            except (OSError, InternalError) as error:
                logger.error("stopped: %s; what is done is kept, run it again to go on", error)
                return STOPPED

    def success(self) -> dict[str, Any]:
        """Counts and exit code of a finished job, as `_SUCCESS` holds them."""
        return json.loads(self.storage.read(SUCCESS))

    def _fingerprinted(self, plan: pa.Table, revision: str) -> pa.Table:
        model, determinism = self.spec.name, self.config.engine.determinism
        prints = []
        for row in plan.select(
            ["id", "image", "image_sha256", "instruction", "options"]
        ).to_pylist():
            seed = row_seed(self.config.seed, row["id"])
            prints.append(fingerprint(row, seed, model, revision, determinism))
        return plan.append_column("fingerprint", pa.array(prints, pa.string()))

    def todo(self) -> tuple[pa.Table, set[str]]:
        """(rows to edit, ids whose old row must go first): what the ledger holds with the same
        fingerprint is not edited again, unless it failed and is to be retried."""
        known = self.ledger.read(["id", "fingerprint", "status", "error_code", "attempts"])
        done = known.filter(pc.invert(self._to_retry(known)))
        keys = pc.binary_join_element_wise(done["id"], done["fingerprint"], "/")
        mine = pc.binary_join_element_wise(self.plan["id"], self.plan["fingerprint"], "/")
        todo = self.plan.filter(pc.invert(pc.is_in(mine, value_set=keys.combine_chunks())))
        place = pc.index_in(todo["id"], value_set=known["id"].combine_chunks())
        before = pc.fill_null(known["attempts"].combine_chunks().take(place.combine_chunks()), 0)
        todo = todo.append_column("attempts", pc.add(before, 1))
        return todo, set(todo.filter(pc.is_valid(place))["id"].to_pylist())

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

    def _edit(self, todo: pa.Table) -> tuple[int, dict[str, Any]]:
        """(exit code so far, what the report says of this run)."""
        if not len(todo):
            return OK, {}
        from batch_jobs.pipeline import edited_entries, ray_cluster

        settings = (self.config, self.spec, base_of(self.manifest), self.storage)
        commits = Commits(self.ledger, self.config.rows_per_commit)
        progress = JobProgress(len(todo))
        with StopSignals() as stop, ray_cluster(self._address), progress, commits:
            stop.listen()
            for entries in edited_entries(todo, *settings):
                commits.add(entries)
                failed = sum(entry["status"] == "error" for entry in entries)
                images = sum(len(entry.get("outputs") or ()) for entry in entries)
                progress.add(len(entries), failed, images)
                if stop.exit_code is not None:
                    return stop.exit_code, {}
                if self._over_budget(progress):
                    return STOPPED, {}
        facts = {"images_per_s": round(progress.images_per_s, 3), "elapsed_s": progress.elapsed_s}
        return OK, facts

    def _over_budget(self, progress: JobProgress) -> bool:
        config = self.config
        if progress.done < config.min_rows_for_error_rate:
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
        results = self.ledger.read()
        results = results.filter(pc.is_in(results["id"], self.plan["id"].combine_chunks()))
        counts = Counter(results["status"].to_pylist())
        code = FAILED_ROWS if counts["error"] else OK
        facts |= {"config": self.config.model_dump(), "versions": _versions()}
        write_report(self.storage, results, self.manifest, facts)
        success = {
            "rows": len(results),
            "ok": counts["ok"],
            "error": counts["error"],
            "errors": Counter(results["error_code"].drop_null().to_pylist()),
            "exit_code": code,
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
