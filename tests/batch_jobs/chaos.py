"""Chaos: a job whose driver, workers and nodes are killed at random moments, and resumed.

`python -m tests.batch_jobs.chaos MANIFEST OUTPUT ADDRESS` is the driver, with an editor that notes
each row that it begins.
"""

from __future__ import annotations

import io
import math
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
from PIL import Image
from ray.cluster_utils import Cluster

from batch_jobs.config import JobConfig
from batch_jobs.job import Job, over_ray
from engine.config import EngineConfig
from engine.registry import find_model
from tests.batch_jobs.editors import TRACE, plain
from tests.serving import ROOT

MODULE = "tests.batch_jobs.chaos"
ACTORS = ("EditWorker", "PairWorker", "ProgrammaticWorker")  # as their processes are called
WORKERS = 2
NODES = 3
DRIVER_KILLS = 5
RUN_TIMEOUT_S = 300.0
CONFIG = JobConfig(
    engine=EngineConfig(resolution=64, determinism="strict", num_threads=1),
    rows_per_commit=32,
    min_workers=WORKERS,
    max_workers=WORKERS,
)


def main(manifest: str, output: str, address: str) -> int:
    """What runs in the driver's process."""
    spec = plain(find_model("pocket", CONFIG.engine.resolution))
    spec = replace(spec, editor="tests.batch_jobs.tracing_editors:TracingEditor")
    return Job.open(manifest, output, CONFIG, spec=spec, run_blocks=over_ray(address)).run()


def write_bad_images(folder: Path, photograph: bytes) -> dict[str, dict[str, Any]]:
    """Twelve kinds of bad rows: error code -> what is wrong with the row."""

    def save(name: str, size: tuple[int, int], **how: Any) -> dict[str, Any]:
        buffer = io.BytesIO()
        Image.new("RGB", size, "teal").save(buffer, name.rpartition(".")[2], **how)
        (folder / name).write_bytes(buffer.getvalue())
        return {"image": name}

    (folder / "text.jpg").write_text("not an image")
    (folder / "cut.jpg").write_bytes(photograph[: len(photograph) // 2])
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    animated = {"save_all": True, "append_images": frames[1:]}
    return {
        "image_unsupported": {"image": "text.jpg"},
        "image_not_found": {"image": "none.jpg"},
        "image_truncated": {"image": "cut.jpg"},
        "image_missing": {"image": None},
        "image_source_refused": {"image": "http://127.0.0.1:9/x.jpg"},
        "image_too_small": save("small.png", (8, 8)),
        "image_too_narrow": save("narrow.png", (600, 20)),
        "image_too_large": save("large.png", (12_001, 900)),
        "image_animated": save("moving.webp", (64, 64), **animated),
        "instruction_empty": {"instruction": " "},
        "instruction_too_long": {"instruction": "very long " * 200},
        "option_invalid": {"guidance_scale": float("nan")},
    }


@contextmanager
def nodes(trace: Path) -> Iterator[Cluster]:
    """Three nodes on this machine, whose workers note in `trace` what they edit."""
    with (
        tempfile.TemporaryDirectory(prefix="ray-") as folder,  # a socket's path must be short
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv(TRACE, str(trace))
        environment.setenv("RAY_TMPDIR", folder)  # or other jobs here would join this cluster
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4})
        try:
            for _ in range(NODES - 1):
                cluster.add_node(num_cpus=4)
            yield cluster
        finally:
            cluster.shutdown()


@dataclass
class Storm:
    """What is killed while a job runs again and again until it ends by itself."""

    cluster: Cluster
    manifest: str
    output: Path
    seed: int
    rows: int  # drivers and a node die when so many of them are done, at random
    run_s: float  # of the undisturbed job: workers die about twice in it, which leaves time for
    # the next one to load its model
    module: str = MODULE  # whose `main` the driver runs
    drivers: int = DRIVER_KILLS  # that die
    worker_kills: int = 0
    node_kills: int = 0
    driver_kills: int = 0
    exit_code: int | None = None

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)
        now = time.monotonic()
        most = 0.8 * self.rows
        self._drivers_die = sorted(self._dice.uniform(0, most) for _ in range(self.drivers))
        self._node_dies = self._dice.uniform(0, most)
        self._worker_dies = now + self.run_s / 2
        self._deadline = now + 6 * RUN_TIMEOUT_S

    @property
    def log(self) -> str:
        """What the drivers said."""
        return log_of(self.output).read_text()

    def blow(self) -> None:
        """Returns when the job has ended by itself; each end is looked at as a reader would."""
        while self.exit_code is None:
            driver = start_driver(self.manifest, self.output, self.cluster.address, self.module)
            spared = time.monotonic() + self._dice.uniform(1, 5)
            while driver.poll() is None:
                assert time.monotonic() < self._deadline, self.log
                done = done_rows(self.output)
                if time.monotonic() > spared and done >= self._next_driver_dies:
                    driver.kill()
                    driver.wait()
                    self.driver_kills += 1
                else:
                    self._gust(done)
                    time.sleep(0.1)
            if driver.returncode != -signal.SIGKILL:
                self.exit_code = driver.returncode
            assert_each_once(self.output)

    @property
    def _next_driver_dies(self) -> float:
        left = self._drivers_die[self.driver_kills :]
        return left[0] if left else math.inf

    def _gust(self, done: int) -> None:
        """Kill a worker every now and then, and once a node; the next one comes up for it."""
        now = time.monotonic()
        if now > self._worker_dies and (workers := editing_processes()):
            self._dice.choice(workers).kill()
            self.worker_kills += 1
            self._worker_dies = now + self.run_s * self._dice.uniform(0.25, 0.75)
        if done >= self._node_dies and not self.node_kills:
            node = self._dice.choice(sorted(self.cluster.worker_nodes, key=id))
            self.cluster.remove_node(node, allow_graceful=False)
            self.node_kills += 1
            self.cluster.add_node(num_cpus=4)


def log_of(output: Path) -> Path:
    return output.parent / f"{output.name}.log"


def start_driver(
    manifest: str, output: Path, address: str, module: str = MODULE
) -> subprocess.Popen[bytes]:
    with log_of(output).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", module, manifest, str(output), address],
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )


def editing_processes() -> list[psutil.Process]:
    """Model actors among the processes of this test."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if any(worker in " ".join(process.cmdline()) for worker in ACTORS):
                found.append(process)
        except psutil.Error:  # gone meanwhile
            continue
    return found


def done_rows(output: Path) -> int:
    """Rows that are committed."""
    return sum(pq.read_metadata(path).num_rows for path in output.glob("results/*.parquet"))


def assert_each_once(output: Path) -> None:
    """Whoever reads the results, at any moment, sees each id at most once."""
    ids = [id for path in sorted(output.glob("results/*.parquet")) for id in _ids(path)]
    assert len(set(ids)) == len(ids)


def _ids(path: Path) -> list[str]:
    return pq.read_table(path, columns=["id"])["id"].to_pylist()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
