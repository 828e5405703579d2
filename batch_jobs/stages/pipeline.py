"""The stages over Ray Data: decode on CPUs, edit on model actors, encode and publish on CPUs."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import wraps
from typing import Concatenate, ParamSpec

import pyarrow as pa
import ray.data

from batch_jobs.cluster import fitted, ray_cluster
from batch_jobs.ray_private import AS_ARROW, PIPELINE_ERRORS, actor_pool
from batch_jobs.stages.blocks import rows_per_block
from batch_jobs.stages.crash_journal import Journal
from batch_jobs.stages.decode import decode_block
from batch_jobs.stages.plan_source import PlanSource
from batch_jobs.stages.publish import publish_rows
from batch_jobs.stages.run import BlockRun, EditedBlocks
from batch_jobs.stages.turns import turn_by_turn
from engine.allocator import keep_freed_memory
from engine.errors import InternalError

P = ParamSpec("P")
Stage = Callable[Concatenate[pa.Table, P], pa.Table]

logger = logging.getLogger(__name__)

DECODE_CPUS = 0.75  # unlike an actor's, or Ray would fuse decoding into the process of the model
# A process keeps so much of the memory that it frees: what photographs of 5 megapixels take.
KEPT_BYTES = 64 << 20
CALLS_PER_WORKER = 2  # the next block is in the model's queue before this one is done


@contextmanager
def edited_entries(run: BlockRun, address: str | None = None) -> Iterator[EditedBlocks]:
    """Edit the blocks of a run on the Ray at `address`, or on one of this process.

    The iterator raises `InternalError` where the pipeline itself fails: storage, memory, a model
    that cannot be loaded. What is wrong with a row is in its ledger row.
    """
    with ray_cluster(address):
        config = fitted(run.config, run.context.spec, len(run.todo))
        # closed before Ray is: to end, Ray Data would start another one
        with closing(turn_by_turn(replace(run, config=config), _entries)) as entries:
            yield EditedBlocks(config, entries)


def _entries(run: BlockRun) -> Generator[pa.Table]:
    dataset = build_dataset(run)
    try:  # a prefetched block would wait for the next one to be done
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    except PIPELINE_ERRORS as error:
        logger.debug("the pipeline failed", exc_info=error)
        raise InternalError(cause_of(error)) from error


def cause_of(error: BaseException) -> str:
    """Tell what went wrong first, in a line: Ray wraps it once or twice."""
    inner: BaseException | None = error
    while inner is not None:
        error, inner = inner, getattr(inner, "cause", None) or inner.__cause__
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def build_dataset(run: BlockRun) -> ray.data.Dataset:
    """Plan the three stages over the blocks of a run; nothing runs yet."""
    config = run.config
    workers = config.max_workers or 1
    rows = rows_per_block(run.todo, config, workers, run.row_s)
    source = PlanSource(run.todo, rows)
    journal = Journal(run.storage, uuid.uuid4().hex[:8])
    decoded = ray.data.read_datasource(
        source, override_num_blocks=source.blocks, num_cpus=DECODE_CPUS
    ).map_batches(
        keeping_memory(decode_block),
        batch_size=None,
        fn_args=(run.context, journal),
        num_cpus=DECODE_CPUS,
        **AS_ARROW,
    )
    edited = decoded.map_batches(
        run.work.worker,
        batch_size=rows,
        fn_constructor_args=run.worker_arguments(journal),
        compute=actor_pool(
            least=min(config.min_workers, workers, source.blocks),
            most=min(workers, source.blocks),
            calls=CALLS_PER_WORKER,
        ),
        num_gpus=config.num_gpus,
        num_cpus=config.num_cpus,
        **AS_ARROW,
    )
    files = (run.storage, config.output_format, config.output_compression, config.metadata)
    publish = keeping_memory(publish_rows)
    return edited.map_batches(publish, batch_size=None, fn_args=files, **AS_ARROW)


def keeping_memory(stage: Stage[P]) -> Stage[P]:
    """Run a stage in a process of Ray that keeps what it frees from one photograph to the next."""

    @wraps(stage)
    def task(block: pa.Table, *args: P.args, **kwargs: P.kwargs) -> pa.Table:
        keep_freed_memory(KEPT_BYTES)
        return stage(block, *args, **kwargs)

    return task
