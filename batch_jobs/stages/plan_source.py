"""The rows to edit as Ray Data reads them."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import ray.data

from batch_jobs.ray_private import read_task


class PlanSource(ray.data.Datasource):
    """Puts the rows to edit into the object store once; each read task cuts its block out of them,
    so that a manifest of any length is planned at once."""

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
        """Make one task a block, whatever `parallelism` is."""
        return [self._read_task(start) for start in range(0, self._length, self._rows)]

    def _read_task(self, start: int) -> ray.data.ReadTask:
        rows = min(self._rows, self._length - start)
        size_bytes = int(rows * self._row_bytes)
        return read_task(partial(_cut, [self._plan], start, rows), rows, size_bytes)


def _cut(plan: list[Any], start: int, rows: int) -> list[pa.Table]:
    """Read a block. `plan`: the reference in a list, or Ray would resolve it on the driver."""
    return [ray.get(plan[0]).slice(start, rows).combine_chunks()]
