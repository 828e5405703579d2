"""A manifest of 100,000 rows, with an editor that answers at once: what is left is our own work.

`python -m tests.batch_jobs.test_scale MANIFEST OUTPUT` is the driver.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs.config import JobConfig
from batch_jobs.job import Job
from batch_jobs.stages.blocks import rows_per_block
from batch_jobs.stopping import Exit
from engine.config import EngineConfig
from engine.registry import find_model
from tests.batch_jobs.chaos import assert_each_once
from tests.batch_jobs.editors import TRACE, dry
from tests.batch_jobs.jobs import left
from tests.conftest import photograph, png
from tests.serving import ROOT

ROWS = int(os.environ.get("RAYEDIT_TEST_ROWS", "100000"))
WORKERS = 2
PLAN_S = RESUME_S = 20.0  # bounds of the issue
DRIVER_BYTES = 2**30
FLAT_BYTES = 128 * 2**20
CONFIG = JobConfig(
    engine=EngineConfig(resolution=16, max_batch_size=64, num_threads=1),
    rows_per_commit=2048,
    min_workers=1,
    max_workers=WORKERS,
)


def make_job(manifest: str, output: str) -> Job:
    return Job.open(manifest, output, CONFIG, spec=dry(find_model("pocket", 16)))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("scale")
    (folder / "small.png").write_bytes(png(photograph("coffee")[:32, :32]))
    columns = {
        "id": [f"row-{i:06d}" for i in range(ROWS)],
        "image": ["small.png"] * ROWS,
        "instruction": [f"make it night, number {i}" for i in range(ROWS)],
        "num_inference_steps": [1] * ROWS,
    }
    pq.write_table(pa.table(columns), folder / "manifest.parquet")
    return str(folder / "manifest.parquet")


def test_a_hundred_thousand_rows_are_planned_in_twenty_seconds(
    manifest: str, tmp_path: Path
) -> None:
    started = time.monotonic()
    now = left(make_job(manifest, str(tmp_path / "out")))
    blocks = len(now.todo) / rows_per_block(now.todo, CONFIG, WORKERS)
    assert time.monotonic() - started < PLAN_S
    assert (len(now.todo), len(now.outdated)) == (ROWS, 0)
    assert blocks > 4 * WORKERS


@pytest.mark.chaos
def test_a_hundred_thousand_rows_keep_the_workers_busy_and_the_driver_small(
    manifest: str, tmp_path: Path
) -> None:
    output, trace = tmp_path / "out", tmp_path / "trace"
    command = [sys.executable, "-m", "tests.batch_jobs.test_scale", manifest, str(output)]
    driver = subprocess.Popen(command, cwd=ROOT, env={**os.environ, TRACE: str(trace)})
    watched = psutil.Process(driver.pid)
    sizes: list[tuple[int, int]] = []  # (parts of the ledger, bytes of the driver)
    while driver.poll() is None:
        parts = len(list(output.glob("results/*.parquet")))
        sizes.append((parts, watched.memory_info().rss))
        time.sleep(0.5)
    assert driver.returncode == Exit.OK
    under_way = [size for parts, size in sizes if parts]
    print(f"driver: {under_way[0] >> 20} to {max(under_way) >> 20} MiB")
    assert max(under_way) < DRIVER_BYTES
    assert max(under_way) - under_way[0] < FLAT_BYTES
    shares = Counter(trace.read_text().split())
    assert len(shares) == WORKERS and sum(shares.values()) == ROWS
    assert min(shares.values()) > 0.25 * ROWS  # the second one came up a little later
    assert_each_once(output)

    started = time.monotonic()
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == Exit.OK
    assert time.monotonic() - started < RESUME_S


if __name__ == "__main__":
    sys.exit(make_job(*sys.argv[1:]).run())
