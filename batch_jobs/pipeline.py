"""The Ray Data pipeline: decode on CPUs, edit on model actors, encode and publish on CPUs."""

from __future__ import annotations

import json
import logging
import math
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import ray
import ray.data
import ray.exceptions
from ray.data.exceptions import ExecutionTimeoutError, SystemException

from batch_jobs.blocks import CALLS_PER_WORKER, PlanSource, rows_per_block
from batch_jobs.config import JobConfig
from batch_jobs.decoding import decode_block
from batch_jobs.journal import Journal
from batch_jobs.storage import Storage
from batch_jobs.worker import EditWorker
from batch_jobs.writer import publish_rows
from engine.errors import InternalError, OptionInvalid
from engine.registry import ModelSpec

logger = logging.getLogger(__name__)

DECODE_CPUS = 0.75  # unlike an actor's, or Ray would fuse decoding into the process of the model
MIN_LOCAL_CPUS = 8  # logical: fewer, and Ray Data's operators starve each other
IDLE_WORKERS = 2  # kept by a Ray of our own: one to decode, one to publish (docs/decisions.md)


def edited_entries(
    todo: pa.Table,
    config: JobConfig,
    spec: ModelSpec,
    base: str,
    storage: Storage,
    row_s: float | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """The ledger rows of `todo`, block by block as they are done, in any order. `row_s`: what a row
    has cost so far, seconds of one worker.

    Raises `InternalError` where the pipeline itself fails: storage, memory, a model that cannot
    be loaded. What is wrong with a row is in its ledger row.
    """
    dataset = build_dataset(todo, config, spec, base, storage, row_s)
    try:
        tables = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        for table in tables:  # a prefetched one would wait for the next one to be done
            yield [json.loads(entry) for entry in table["entry"].to_pylist()]
    except (ray.exceptions.RayError, SystemException, ExecutionTimeoutError) as error:
        logger.debug("the pipeline failed", exc_info=error)
        raise InternalError(_cause(error)) from error


def _cause(error: BaseException) -> str:
    """What went wrong first: Ray wraps it once or twice."""
    inner: BaseException | None = error
    while inner is not None:
        error, inner = inner, getattr(inner, "cause", None) or inner.__cause__
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def build_dataset(
    todo: pa.Table,
    config: JobConfig,
    spec: ModelSpec,
    base: str,
    storage: Storage,
    row_s: float | None = None,
) -> ray.data.Dataset:
    """The plan, not yet run: blocks of rows through the three stages."""
    workers = _workers(config)
    rows = rows_per_block(todo, config, workers, row_s)
    source = PlanSource(todo, rows)
    journal = Journal(storage, uuid.uuid4().hex[:8])
    root = os.path.abspath(config.image_root) if config.image_root else None
    every_stage = {"batch_format": "pyarrow", "udf_modifying_row_count": False}
    decoded = ray.data.read_datasource(
        source, override_num_blocks=source.blocks, num_cpus=DECODE_CPUS
    ).map_batches(
        decode_block,
        batch_size=None,
        fn_args=(spec, config.seed, base, root, journal),
        num_cpus=DECODE_CPUS,
        **every_stage,
    )
    edited = decoded.map_batches(
        EditWorker,
        batch_size=rows,
        fn_constructor_args=(config.engine, spec, journal),
        compute=ray.data.ActorPoolStrategy(
            min_size=min(config.min_workers, workers, source.blocks),
            max_size=min(workers, source.blocks),
            max_concurrent_calls_per_actor=CALLS_PER_WORKER,
            enable_true_multi_threading=True,
        ),
        num_gpus=config.num_gpus,
        num_cpus=config.num_cpus,
        **every_stage,
    )
    return edited.map_batches(publish_rows, batch_size=None, fn_args=(storage,), **every_stage)


def _workers(config: JobConfig) -> int:
    """Model actors at most: as many as the GPUs hold now, where the configuration names none."""
    gpus = float(ray.cluster_resources().get("GPU", 0))
    if config.num_gpus > gpus:
        logger.warning(
            "a model actor takes %g GPUs and Ray has %g: nothing is edited before a node with more "
            "joins; num_gpus: 0 edits on CPUs",
            config.num_gpus,
            gpus,
        )
    if config.max_workers is not None:
        return config.max_workers
    return max(math.floor(gpus / config.num_gpus) if config.num_gpus else 1, config.min_workers)


@contextmanager
def ray_cluster(address: str | None = None) -> Iterator[None]:
    """The cluster this process is in, or that `address` or RAY_ADDRESS names, or one of its own
    that ends with the block. Raises `OptionInvalid` where there is none at the address."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True  # Ray's own has lost its cause on the way here
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # an error is raised, and told once
    if ray.is_initialized():
        yield
        return
    quiet = {"log_to_driver": False, "logging_level": logging.WARNING}
    if address or os.environ.get("RAY_ADDRESS"):
        try:
            ray.init(address=address or "auto", **quiet)
        except (ValueError, RuntimeError, ConnectionError) as error:
            reason = str(error).strip().splitlines()[0]
            raise OptionInvalid(f"--address or RAY_ADDRESS: {reason}", param="address") from None
    else:
        cpus = max(MIN_LOCAL_CPUS, os.cpu_count() or 1)
        own = {"include_dashboard": False, "num_cpus": cpus}
        # nobody reads event_stats, and they take a core's time (docs/decisions.md)
        calm = {"num_workers_soft_limit": IDLE_WORKERS, "event_stats": False}
        ray.init(address="local", _system_config=calm, **own, **quiet)
    try:
        yield
    finally:
        ray.shutdown()
