"""How many workers a job makes of the Ray that it is in, and with how many threads each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from batch_jobs.cluster import fitted
from batch_jobs.config import JobConfig
from batch_jobs.job import Job
from batch_jobs.stopping import Exit
from engine.config import EngineConfig, cores
from engine.registry import find_model
from engine.spec import ModelSpec
from tests.batch_jobs.editors import TRACE
from tests.conftest import photograph, png

CORES = cores()
POCKET = find_model("pocket")


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trace") / "trace"


@pytest.fixture(scope="module")
def machine(trace: Path) -> Iterator[Cluster]:
    """One node with three GPUs, for Ray to count; its workers note in `trace` what they do."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(TRACE, str(trace))
        cluster = Cluster(True, head_node_args={"num_cpus": max(8, CORES), "num_gpus": 3})
        try:
            ray.init(address=cluster.address, log_to_driver=False)
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


def room(engine: dict[str, Any] | None = None, rows: int = 1000, **given: Any) -> tuple[Any, ...]:
    """(workers at first, at most, threads of each)"""
    spec = given.pop("spec", POCKET)
    config = fitted(JobConfig(engine=EngineConfig(**engine or {}), **given), spec, rows)
    return config.min_workers, config.max_workers, config.engine.threads


def heavy(folder: Path) -> ModelSpec:
    """A model of 8 TiB, none of it written."""
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(2**43)
    return replace(POCKET, source=str(folder))


def test_a_machine_without_gpus_has_a_worker_for_each_core(machine: Cluster) -> None:
    assert room() == (CORES, CORES, 1)
    assert room({"num_threads": CORES}) == (1, 1, CORES)


def test_what_is_named_is_taken_and_the_cores_are_shared(machine: Cluster) -> None:
    assert room(max_workers=1) == (1, 1, CORES)
    assert room(max_workers=2 * CORES) == (1, 2 * CORES, 1)
    assert room(min_workers=3 * CORES) == (3 * CORES, 3 * CORES, 1)
    assert room({"num_threads": 5}, max_workers=2) == (1, 2, 5)


def test_there_are_no_more_workers_than_blocks(machine: Cluster) -> None:
    assert room(rows=1) == (1, 1, CORES)
    assert room(rows=100, rows_per_block=100) == (1, 1, CORES)


@pytest.mark.parametrize("engine", [{"determinism": "strict"}, {"calibration": "calibration.yaml"}])
def test_strict_and_a_calibration_keep_the_threads_of_the_other_doors(
    machine: Cluster, engine: dict[str, Any]
) -> None:
    assert room(engine) == (1, 1, EngineConfig().threads)
    assert room({**engine, "num_threads": 1}) == (CORES, CORES, 1)
    assert room(engine, max_workers=2)[2] == EngineConfig().threads


def test_workers_are_no_more_than_the_memory_holds(machine: Cluster, tmp_path: Path) -> None:
    assert room(spec=heavy(tmp_path)) == (1, 1, CORES)


def test_a_model_of_unknown_size_has_one_worker(machine: Cluster) -> None:
    assert room(spec=find_model("instruct-pix2pix")) == (1, 1, CORES)


def test_on_gpus_there_are_as_many_workers_as_they_hold(
    machine: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    assert room(num_gpus=1.0) == (3, 3, EngineConfig().threads)
    assert room(num_gpus=0.1)[1] == 30
    assert not caplog.records
    assert room(num_gpus=4.0)[1] == 1
    assert "takes 4 GPUs and Ray has 3" in caplog.text


@pytest.mark.slow
def test_the_workers_of_a_job_run_so(machine: Cluster, trace: Path, tmp_path: Path) -> None:
    (tmp_path / "small.png").write_bytes(png(photograph("coffee")[:32, :32]))
    rows = "".join(f"row-{i},small.png,make it night,1\n" for i in range(8 * CORES))
    (tmp_path / "m.csv").write_text("id,image,instruction,num_inference_steps\n" + rows)
    config = JobConfig(engine=EngineConfig(resolution=64))
    spec = replace(
        find_model("pocket", 64), editor="tests.batch_jobs.tracing_editors:CountedThreads"
    )
    assert (
        Job.open(str(tmp_path / "m.csv"), str(tmp_path / "out"), config, spec=spec).run() == Exit.OK
    )
    noted = [line.split() for line in trace.read_text().splitlines()]
    assert len({pid for pid, _ in noted}) == CORES
    assert {threads for _, threads in noted} == {"1"}
    ran = json.loads((tmp_path / "out" / "report.json").read_text())["config"]
    assert (ran["max_workers"], ran["engine"]["num_threads"]) == (CORES, 1)


def test_a_cluster_of_more_machines_has_one_worker_until_told(machine: Cluster) -> None:
    machine.add_node(num_cpus=4)
    assert room() == (1, 1, EngineConfig().threads)
    assert room(max_workers=4) == (1, 4, EngineConfig().threads)
