"""One Ray cluster for the module, and manifests over real photographs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs.config import JobConfig
from batch_jobs.job import Job
from engine.config import EngineConfig
from engine.registry import ModelSpec


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    from batch_jobs.cluster import ray_cluster

    with ray_cluster():
        yield


@pytest.fixture
def manifest(tmp_path: Path, photographs: dict[str, bytes]) -> Callable[..., str]:
    """manifest(rows, name) -> path of a Parquet file beside the photographs."""
    for name, data in photographs.items():
        (tmp_path / f"{name}.jpg").write_bytes(data)

    def write(rows: list[dict[str, Any]], name: str = "manifest.parquet") -> str:
        columns = {key: [row.get(key) for row in rows] for row in rows for key in row}
        pq.write_table(pa.table(columns), tmp_path / name)
        return str(tmp_path / name)

    return write


CONFIG = JobConfig(
    engine=EngineConfig(resolution=64, determinism="strict"), rows_per_block=5, rows_per_commit=10
)


def run_job(
    manifest: str, output: Path, config: JobConfig = CONFIG, spec: ModelSpec | None = None
) -> int:
    return Job(manifest, str(output), config, spec=spec).run()
