"""Jobs for tests: over Ray with the embedded model, or in this process with an editor that answers
at once; and what they leave."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from batch_jobs.config import JobConfig
from batch_jobs.job import Job
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.previous_run import PreviousRun
from batch_jobs.ledger.remaining import Remaining
from batch_jobs.stages.in_process import edited_here
from batch_jobs.stopping import Exit
from engine.config import EngineConfig
from engine.spec import ModelSpec
from storage.storage import Storage
from tests.batch_jobs.editors import dry
from tests.conftest import PHOTOGRAPHS

CONFIG = JobConfig(
    engine=EngineConfig(resolution=64, determinism="strict"), rows_per_block=5, rows_per_commit=10
)


def run_job(
    manifest: str, output: Path, config: JobConfig = CONFIG, spec: ModelSpec | None = None
) -> Exit:
    """Over Ray."""
    return Job.open(manifest, str(output), config, spec=spec).run()


def job_here(
    manifest: str, output: Path, config: JobConfig = CONFIG, spec: ModelSpec | None = None
) -> Job:
    """In this process; by default with the dry editor."""
    spec = spec or dry(config.engine.find_model())
    return Job.open(manifest, str(output), config, spec=spec, run_blocks=edited_here)


def run_here(
    manifest: str, output: Path, config: JobConfig = CONFIG, spec: ModelSpec | None = None
) -> Exit:
    return job_here(manifest, output, config, spec).run()


def good_rows(count: int) -> list[dict[str, Any]]:
    texts = ("make it night", "make it blue", "add fog")
    return [
        {
            "id": f"row-{i}",
            "image": f"{PHOTOGRAPHS[i % 4]}.jpg",
            "instruction": texts[i % 3],
            "num_inference_steps": 2 + i % 2,
            "guidance_scale": 5.0,
        }
        for i in range(count)
    ]


def ledger(output: Path) -> dict[str, dict[str, Any]]:
    """id -> ledger row; each id is there once."""
    rows = Ledger(Storage(str(output))).read().to_pylist()
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: row for row in rows}


def digests(row: dict[str, Any]) -> list[str]:
    """sha256 of each published file of a row, computed anew."""
    return [hashlib.sha256(Path(out["uri"]).read_bytes()).hexdigest() for out in row["outputs"]]


def left(job: Job) -> Remaining:
    """What a run of the job would do now."""
    return job.remaining(PreviousRun(job.storage))
