"""Blocks of rows: how many one task decodes, edits and publishes, and where it gets them."""

from __future__ import annotations

import json
import math
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data.block import BlockMetadata

from batch_jobs.config import BLOCKS_IN_A_COMMIT, JobConfig

MOST_BATCHES = 4  # model batches of one block: the unit of retry and of lost work
BLOCK_S = 20.0  # no block lasts much longer, if it is known what a row costs
BLOCKS_OF_A_WORKER = 4  # at least, so that all workers end at about the same time
CALLS_PER_WORKER = 2  # the next block is in the model's queue before this one is done


def rows_per_block(
    todo: pa.Table, config: JobConfig, workers: int = 1, row_s: float | None = None
) -> int:
    """1 to 4 model batches, fewer where `commit_rows` or the number of rows asks for it.

    `row_s`: what a row has cost so far, seconds of one worker.
    """
    if config.rows_per_block is not None:
        return config.rows_per_block
    batch = max(config.engine.max_batch_size / _images_per_row(todo), 1)
    most = MOST_BATCHES * batch
    if row_s:
        most = min(max(BLOCK_S / row_s, batch), most)
    share = math.ceil(len(todo) / (workers * BLOCKS_OF_A_WORKER))
    return int(max(min(most, config.commit_rows(len(todo)) // BLOCKS_IN_A_COMMIT, share), 1))


def _images_per_row(todo: pa.Table) -> float:
    sample = [json.loads(options) for options in todo["options"][:1000].to_pylist()]
    images = [n for row in sample if isinstance(n := row.get("num_images"), int) and n > 0]
    return (sum(images) + len(sample) - len(images)) / max(len(sample), 1)


class PlanSource(ray.data.Datasource):
    """The rows to edit, once in the object store; each read task cuts its block out of them, so
    that a manifest of any length is planned at once."""

    def __init__(self, todo: pa.Table, rows: int) -> None:
        super().__init__()
        self._plan = ray.put(todo)
        self._rows = rows
        self._length = len(todo)
        self._row_bytes = todo.nbytes / max(len(todo), 1)

    @property
    def blocks(self) -> int:
        return math.ceil(self._length / self._rows)

    def estimate_inmemory_data_size(self) -> int:
        return int(self._row_bytes * self._length)

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ray.data.ReadTask]:
        """One task a block, whatever `parallelism` is."""
        return [self._read_task(start) for start in range(0, self._length, self._rows)]

    def _read_task(self, start: int) -> ray.data.ReadTask:
        rows = min(self._rows, self._length - start)
        metadata = BlockMetadata(
            num_rows=rows,
            size_bytes=int(rows * self._row_bytes),
            input_files=None,
            exec_stats=None,
        )
        return ray.data.ReadTask(partial(_cut, [self._plan], start, rows), metadata)


def _cut(plan: list[Any], start: int, rows: int) -> list[pa.Table]:
    """`plan`: the reference in a list, or Ray would resolve it on the driver."""
    return [ray.get(plan[0]).slice(start, rows).combine_chunks()]
