"""The Ray Data pipeline: decode on CPUs, edit on model actors, encode and publish on CPUs."""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import ray
import ray.data
import ray.exceptions
from ray.data.exceptions import ExecutionTimeoutError, SystemException

from batch_jobs.config import JobConfig
from batch_jobs.stages.blocks import CALLS_PER_WORKER, PlanSource, rows_per_block
from batch_jobs.stages.crash_journal import Journal
from batch_jobs.stages.decode import decode_block
from batch_jobs.stages.edit import EditWorker
from batch_jobs.stages.publish import publish_rows
from batch_jobs.storage.storage import Storage
from engine.errors import InternalError
from engine.registry import ModelSpec

logger = logging.getLogger(__name__)

DECODE_CPUS = 0.75  # unlike an actor's, or Ray would fuse decoding into the process of the model


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
    workers = config.max_workers or 1
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
