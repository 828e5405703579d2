"""What a run takes over from the one before it."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from batch_jobs.config import JobConfig
from batch_jobs.ledger.fingerprint import RECIPE
from batch_jobs.ledger.layout import JOB, SUCCESS
from batch_jobs.manifest.plan import base_of, has_relative
from batch_jobs.manifest.reading import Reading
from engine.counted import counted
from engine.errors import OptionInvalid, OutputUnusable
from engine.spec import ModelSpec
from engine.weights import find_revision
from storage.storage import Storage

logger = logging.getLogger(__name__)

# of every row
ROW_SETTINGS = (
    *("model", "spec", "revision", "seed", "same_seed", "engine", "check_sources"),
    *("output_format", "output_compression"),
)


class PreviousRun:
    """Tells of the run before this one, by its `job.json`; before the first one it is empty."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._job: dict[str, Any] = {}
        if storage.exists(JOB):
            self._job = json.loads(storage.read(JOB))
        self._finished = storage.exists(SUCCESS)

    @property
    def recipe(self) -> int:
        """Name the recipe of this output's fingerprints: that of its first run."""
        return int(self._job.get("fingerprint_recipe", 1)) if self._job else RECIPE

    def revision(self, spec: ModelSpec) -> str:
        """Find the revision of the weights.

        A hub id without one keeps what the first run found: the hub may have moved on since, and
        nobody asked for the rows that are done to be edited again.
        """
        if not spec.editor:  # it has no weights: its revision is all that there is
            return spec.revision or ""
        known = self._job.get("revision")
        is_ours = self._job.get("source") == spec.source and not os.path.isdir(spec.source)
        return known if known and is_ours and spec.revision is None else find_revision(spec)

    def retry_since(self, config: JobConfig) -> datetime:
        """Tell when the retry began that this run goes on with, or now. What has failed since then
        has had its turn."""
        goes_on = self._job.get("config", {}).get("retry") == config.retry and not self._finished
        since = self._job.get("retry_since") if goes_on else None
        return datetime.fromisoformat(since) if since else datetime.now(UTC)

    def check(self, manifest: str, plan: pa.Table, stale: pa.Table, reading: Reading) -> None:
        """Raises `OutputUnusable` where the output is of another manifest, or of images in another
        folder; `stale`: the rows of its ledger that are not in the plan."""
        before = self._job.get("manifest")
        was = Reading.of(self._job.get("config", {}))
        if before == manifest and was.image_base == reading.image_base:
            return
        if len(stale) and before != manifest:
            raise OutputUnusable(
                f"{self._storage.url} holds {counted(len(stale), 'row')} of another manifest, such "
                f"as {stale['id'][0]}: give another output"
            )
        if before is None:
            return
        then, now = base_of(before, was), base_of(manifest, reading)
        if then != now and has_relative(plan):
            raise OutputUnusable(
                f"{self._storage.url} holds edits of the images in {then}, not of those in "
                f"{now}: give another output; if they are the same ones, only moved, correct "
                f'"manifest" in {self._storage.uri(JOB)}'
            )

    def check_retry(self, job: dict[str, Any], rows: int) -> None:
        """Raises `OptionInvalid` where a retry has other settings than the `rows` beside it, which
        would be edited again by them; `job`: this run's `job.json`."""
        changed = self._changed(job)
        if rows and changed:
            raise OptionInvalid(
                f"--retry edits rows as the others were, and {', '.join(changed)} changed since: "
                f"give the job the same flags and YAML, or leave --retry out to edit "
                f"{counted(rows, 'other row')} again too",
                param="retry",
            )

    def warn_of_reruns(self, job: dict[str, Any], rows: int) -> None:
        """Warn where so many finished rows are edited again; `job`: this run's `job.json`."""
        if not rows:
            return
        logger.warning(
            "%s will be edited again, each kept until then: %s changed",
            counted(rows, "finished row"),
            ", ".join(self._changed(job)) or "their instruction, options, image or mask",
        )

    def _changed(self, job: dict[str, Any]) -> list[str]:
        """List the settings of every row that another `job.json` has otherwise; those of later
        versions are at their defaults here."""
        before, now = [{**told.get("config", {}), **told} for told in (self._job, job)]
        names = [name for name in ROW_SETTINGS if name in before]
        return [name for name in names if before[name] != now.get(name)]
