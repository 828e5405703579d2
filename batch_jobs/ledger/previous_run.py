"""What a run takes over from the ones before it, and which rows are left to edit."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.config import JobConfig
from batch_jobs.ledger.ledger import is_repeated, keys
from batch_jobs.manifest.plan import base_of, has_relative
from batch_jobs.storage.storage import Storage
from engine.errors import OutputUnusable
from engine.registry import ModelSpec
from engine.weights import find_revision

logger = logging.getLogger(__name__)

SUCCESS, JOB = "_SUCCESS", "job.json"
KNOWN = ["id", "fingerprint", "status", "error_code", "attempts", "finished_at"]
SETTINGS = ("model", "spec", "revision", "seed", "engine", "check_sources")  # of every row


class Former:
    """The run before this one, as its `job.json` tells of it; before the first one it is empty."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._job: dict[str, Any] = {}
        if storage.exists(JOB):
            self._job = json.loads(storage.read(JOB))
        self._finished = storage.exists(SUCCESS)

    def revision(self, spec: ModelSpec) -> str:
        """Of the weights. A hub id without one keeps what the first run found: the hub may have
        moved on since, and nobody asked for the rows that are done to be edited again."""
        known = self._job.get("revision")
        is_ours = self._job.get("source") == spec.source and not os.path.isdir(spec.source)
        return known if known and is_ours and spec.revision is None else find_revision(spec)

    def retry_since(self, config: JobConfig) -> datetime:
        """When the retry began that this run goes on with, or now. What has failed since then has
        had its turn."""
        goes_on = self._job.get("config", {}).get("retry") == config.retry and not self._finished
        since = self._job.get("retry_since") if goes_on else None
        return datetime.fromisoformat(since) if since else datetime.now(UTC)

    def check(self, manifest: str, plan: pa.Table, stale: pa.Table) -> None:
        """Raises `OutputUnusable` where the output is of another manifest; `stale`: the rows of its
        ledger that are not in the plan."""
        former = self._job.get("manifest")
        if former == manifest:
            return
        if len(stale):
            raise OutputUnusable(
                f"{self._storage.url} holds {len(stale)} rows of another manifest, such as "
                f"{stale['id'][0]}: give another output"
            )
        moved = former is not None and base_of(former) != base_of(manifest)
        if moved and has_relative(plan["image"]):
            raise OutputUnusable(
                f"{self._storage.url} holds edits of the images beside {former}, not of those "
                f"beside {manifest}: give another output; if they are the same ones, only "
                f'moved, correct "manifest" in {self._storage.uri(JOB)}'
            )

    def tell(self, job: dict[str, Any], rows: int) -> None:
        """Warn where so many finished rows are edited again; `job`: this run's `job.json`."""
        if not rows:
            return
        before, now = [{**told.get("config", {}), **told} for told in (self._job, job)]
        changed = [name for name in SETTINGS if before.get(name) != now.get(name)]
        logger.warning(
            "%d rows that are done are edited again, each kept until then: %s changed",
            rows,
            ", ".join(changed) or "their instruction, options or image",
        )


def changed_rows(plan: pa.Table, outdated: pa.Table) -> int:
    """How many of the ledger's outdated rows were ok, and are rows of the plan in another form."""
    ok = outdated.filter(pc.equal(outdated["status"], "ok"))
    ok = ok.filter(pc.is_in(ok["id"], plan["id"].combine_chunks()))
    return len(ok) - pc.sum(pc.is_in(keys(ok), keys(plan))).as_py() if len(ok) else 0


def rows_to_edit(plan: pa.Table, known: pa.Table, config: JobConfig, since: datetime) -> pa.Table:
    """The rows of the plan but those that the ledger holds once, with the same fingerprint: unless
    they failed before `since` and are to be retried. Column `attempts`: with this one."""
    again = pc.or_(_to_retry(known, config, since), is_repeated(known["id"]))
    done = known.filter(pc.invert(again))
    todo = plan.filter(pc.invert(pc.is_in(keys(plan), keys(done))))
    place = pc.index_in(todo["id"], value_set=known["id"].combine_chunks()).combine_chunks()
    before = pc.fill_null(known["attempts"].combine_chunks().take(place), 0)
    return todo.append_column("attempts", pc.add(before, 1))


def _to_retry(known: pa.Table, config: JobConfig, since: datetime) -> pa.Array | pa.ChunkedArray:
    if config.retry is None:
        return pa.repeat(False, len(known))
    asked = pc.equal(known["status"], "error")
    if config.retry != "all":
        asked = pc.fill_null(pc.equal(known["error_code"], config.retry), False)
    return pc.and_(
        asked, pc.less(known["finished_at"], pa.scalar(since, pa.timestamp("us", "UTC")))
    )


def not_in(rows: pa.Table, ids: pa.ChunkedArray) -> pa.Table:
    """The rows whose `id` is not among these."""
    return rows.filter(pc.invert(pc.is_in(rows["id"], ids.combine_chunks())))
