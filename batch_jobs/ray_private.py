"""The private and unstable parts of Ray Data on which a job depends, all of them.

Each was read in the source of `CHECKED_RAY`, where Ray marks it `DeveloperAPI` or not at all. A new
Ray: read them again, `make test-all`, and write its version here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import ray.data
import ray.exceptions
from ray.data.block import BlockMetadata
from ray.data.exceptions import ExecutionTimeoutError, SystemException

CHECKED_RAY = "2.60.0"

# What ends a pipeline, beside what our own code raises (data/exceptions.py).
PIPELINE_ERRORS = (ray.exceptions.RayError, SystemException, ExecutionTimeoutError)

# Of `map_batches`: Arrow in and out, and as many rows out as in, which spares Ray a count
# (data/dataset.py; the second is a DeveloperAPI parameter).
AS_ARROW = {"batch_format": "pyarrow", "udf_modifying_row_count": False}


def quieten_ray_data() -> None:
    """Let a failing task raise our own error, once, and nothing be printed beside the job's lines.

    `raise_original_map_exception`: Ray's `UserCodeException` loses its cause on the way to the
    driver (data/_internal/planner/plan_udf_map_op.py). What is raised to us is also logged to
    "ray.data" as a traceback.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)


def read_task(read: Callable[[], Iterable[Any]], rows: int, size_bytes: int) -> ray.data.ReadTask:
    """Make the task of a `Datasource` that reads one block of `rows` (data/block.py)."""
    metadata = BlockMetadata(rows, size_bytes, exec_stats=None, input_files=None)
    return ray.data.ReadTask(read, metadata)


def actor_pool(least: int, most: int, calls: int) -> ray.data.ActorPoolStrategy:
    """Make a pool of `least` to `most` actors that work on `calls` blocks each at once.

    `enable_true_multi_threading`: else Ray lets one call at a time into an actor, whatever their
    number (data/_internal/compute.py).
    """
    return ray.data.ActorPoolStrategy(
        min_size=least,
        max_size=most,
        max_concurrent_calls_per_actor=calls,
        enable_true_multi_threading=True,
    )
