"""What a job is to do, whatever is done of it already."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa

from batch_jobs.config import JobConfig
from batch_jobs.ledger.failed import read_ids
from batch_jobs.ledger.fingerprint import Fingerprints
from batch_jobs.ledger.previous_run import PreviousRun
from batch_jobs.ledger.turns import with_previous_pictures
from batch_jobs.manifest.chains import with_turns_after
from batch_jobs.manifest.columns import PICTURES
from batch_jobs.manifest.plan import base_of, read_manifest
from batch_jobs.manifest.reading import AS_IT_IS, Reading
from batch_jobs.manifest.source_versions import reference_versions, source_versions
from batch_jobs.manifest.styled import with_styles
from engine.spec import ModelSpec
from engine.weights import judge_revision
from storage.location import absolute

Read = Callable[[str, Reading], pa.Table]  # a manifest as rows of `PLAN`


@dataclass(frozen=True, slots=True)
class JobPlan:
    """Says what a job is to do: one manifest, one model, one configuration."""

    manifest: str  # absolute path, or URI
    config: JobConfig
    spec: ModelSpec  # with the revision that the fingerprints are of: every worker loads it
    revision: str  # hub commit, or the digest of the folder's weights
    recipe: int  # of the fingerprints
    # of `PLAN`, its styles written out, with the columns `fingerprint` and `previous_picture`
    rows: pa.Table
    only: pa.ChunkedArray | None = None  # the ids that a retry names, where it names some
    reading: Reading = AS_IT_IS  # how the manifest was read

    @classmethod
    def make(
        cls,
        manifest: str,
        config: JobConfig,
        previous: PreviousRun,
        spec: ModelSpec | None = None,
        read: Read = read_manifest,
    ) -> Self:
        """Read the manifest; may ask the hub for the model's revision, and storage for the versions
        of all images and masks. `spec` stands in for `config.engine.model`, `read` for how a
        manifest becomes rows.

        Raises `RequestError` and `ModelError`.
        """
        location = absolute(manifest)
        spec = spec or config.engine.find_model()
        reading = Reading.of(config.model_dump())
        styles = config.engine.find_styles()
        rows = with_styles(read(manifest, reading), styles, spec, config.style, config.said)
        revision = previous.revision(spec)
        if not os.path.isdir(spec.source) and spec.hub.local_dir is None:
            spec = spec.pinned(revision)
        file = config.retry_file
        only = None if file is None else with_turns_after(rows, read_ids(file, rows["id"]))
        versions: dict[str, list[Any]] | None = None
        if config.check_sources:
            base = base_of(location, reading)
            versions = {
                name: source_versions(rows[name].to_pylist(), base) for name in PICTURES
            } | {"references": reference_versions(rows, base)}
        prints = Fingerprints(
            *(spec, revision, config.engine, config.seed),
            *(previous.recipe, config.same_seed, config.encoding, judge_revision(spec)),
        )
        rows = with_previous_pictures(prints.add_to(rows, versions), config.output_format)
        return cls(location, config, spec, revision, previous.recipe, rows, only, reading)
