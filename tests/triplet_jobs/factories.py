"""Factories for tests, in this process, and what they leave."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from batch_jobs.config import JobConfig
from batch_jobs.stages.in_process import edited_here
from engine.config import EngineConfig
from engine.options import EditOptions
from engine.spec import ModelSpec
from triplet_jobs.config import TripletConfig
from triplet_jobs.folder_rewriter import RunRewriting, rewritten_here
from triplet_jobs.job import TripletJob

JOB = JobConfig(
    engine=EngineConfig(
        resolution=64, determinism="strict", num_threads=1, options=EditOptions(resize="crop")
    ),
    rows_per_block=5,
    rows_per_commit=10,
)
ARITHMETIC = TripletConfig(pairer="programmatic", rewrites=3, job=JOB)


def factory_here(
    captions: Path | str,
    output: Path,
    config: TripletConfig = ARITHMETIC,
    spec: ModelSpec | None = None,
    rewriting: RunRewriting = rewritten_here,
) -> TripletJob:
    here = {"run_blocks": edited_here, "run_rewriting": rewriting}
    return TripletJob.open(str(captions), str(output), config, spec=spec, **here)


def changed(config: TripletConfig, **values: Any) -> TripletConfig:
    return TripletConfig(**{**dict(config), **values})


def with_job(config: TripletConfig, **values: Any) -> TripletConfig:
    return changed(config, job=config.job.model_copy(update=values))


def data_set(output: Path) -> pa.Table:
    """All rows of the data set; without one, none."""
    return pa.concat_tables(
        [pq.read_table(path) for path in sorted((output / "data").glob("train-*.parquet"))]
    )


def rows_of(output: Path) -> dict[str, dict[str, Any]]:
    """id -> row of the data set."""
    return {row["id"]: row for row in data_set(output).to_pylist()}


def account(output: Path) -> dict[str, Any]:
    return json.loads((output / "triplets.json").read_text())


def pixels(picture: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture["bytes"])))


def files(output: Path, folder: str) -> set[str]:
    """Names of the files below a folder of an output, but for the scraps of a killed process."""
    found = {path.name for path in (output / folder).rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith(".")}
