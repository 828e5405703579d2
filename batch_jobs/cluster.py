"""The Ray that a job runs in, and how many workers it has room for."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from batch_jobs.config import JobConfig
from batch_jobs.ray_private import quieten_ray_data
from cluster.session import joined_ray, local_ray
from cluster.stderr import python_stderr
from engine.config import EngineConfig, cores
from engine.spec import ModelSpec
from engine.weights import weights_bytes

logger = logging.getLogger(__name__)

IDLE_WORKERS = 2  # kept by a Ray of our own: one to decode, one to publish (docs/decisions.md)
WORKER_BYTES = 1 << 30  # of a model actor on a CPU beside its weights: 0.75 GiB with `pocket`
WEIGHTS_COPIES = 4  # files in half precision are float32 here, and a batch takes as much again


@contextmanager
def ray_cluster(address: str | None = None) -> Iterator[None]:
    """Connect to the cluster that `address` or RAY_ADDRESS names, or start one that ends with the
    block; a process that is in one stays in it. Raises `OptionInvalid` where there is none at the
    address, and `ClusterUnavailable` where Ray does not start."""
    quieten_ray_data()
    if ray.is_initialized():
        yield
        return
    quiet = {"log_to_driver": False, "logging_level": logging.WARNING}
    named = address or os.environ.get("RAY_ADDRESS")
    ours = joined_ray(address or "auto", **quiet) if named else local_ray(IDLE_WORKERS, **quiet)
    with python_stderr(), ours:
        yield


def fitted(config: JobConfig, spec: ModelSpec, rows: int) -> JobConfig:
    """Fill in the workers that the connected Ray has room for, where `config` names none: at most
    one a block of `rows`, all of them from the start.

    On GPUs as many as they hold now. On the CPUs of one machine one for each core, with one thread,
    as far as memory goes: they edit more than one with a thread for each core (docs/decisions.md).
    In `strict`, and with a calibration, a worker has the threads that it has behind other doors.
    """
    found = _workers_on_gpus(config) if config.num_gpus else _workers_on_cpus(config, spec)
    blocks = math.ceil(rows / (config.rows_per_block or 1))
    most = config.max_workers or max(min(found, blocks), config.min_workers)
    least = config.min_workers if config.max_workers else most
    engine = config.engine
    if _shares_cores(config) and not _threads_are_fixed(engine):
        engine = engine.model_copy(update={"num_threads": max(cores() // most, 1)})
    return config.model_copy(update={"min_workers": least, "max_workers": most, "engine": engine})


def _workers_on_gpus(config: JobConfig) -> int:
    gpus = float(ray.cluster_resources().get("GPU", 0))
    if config.num_gpus > gpus:
        logger.warning(
            "a model actor takes %g GPUs and Ray has %g: nothing is edited before a node with more "
            "joins; num_gpus: 0 edits on CPUs",
            config.num_gpus,
            gpus,
        )
    return math.floor(gpus / config.num_gpus)


def _workers_on_cpus(config: JobConfig, spec: ModelSpec) -> int:
    size = weights_bytes(spec)
    if not _shares_cores(config) or size is None:
        return 1
    threads = config.engine.threads if _threads_are_fixed(config.engine) else 1
    memory = ray.cluster_resources().get("memory", 0.0)
    return max(min(cores() // threads, int(memory / (WORKER_BYTES + WEIGHTS_COPIES * size))), 1)


def _shares_cores(config: JobConfig) -> bool:
    """Tell whether the workers compute on the cores of this machine alone."""
    return not config.num_gpus and sum(node["Alive"] for node in ray.nodes()) == 1


def _threads_are_fixed(engine: EngineConfig) -> bool:
    return bool(engine.num_threads or engine.determinism == "strict" or engine.calibration)
