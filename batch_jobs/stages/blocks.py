"""Blocks of rows: how many one task decodes, edits and publishes."""

from __future__ import annotations

import json
import math

import pyarrow as pa

from batch_jobs.config import BLOCKS_IN_A_COMMIT, JobConfig

MOST_BATCHES = 4  # model batches of one block: the unit of retry and of lost work
BLOCK_S = 20.0  # no block lasts much longer, if it is known what a row costs
BLOCKS_OF_A_WORKER = 4  # at least, so that all workers end at about the same time


def rows_per_block(
    todo: pa.Table, config: JobConfig, workers: int = 1, row_s: float | None = None
) -> int:
    """Choose 1 to 4 model batches, fewer where `commit_rows` or the number of rows asks for it.

    `row_s`: what a row has cost so far, seconds of one worker.
    """
    if config.rows_per_block is not None:
        return config.rows_per_block
    batch = max(config.engine.max_batch_size / _images_per_row(todo, config), 1)
    most = MOST_BATCHES * batch
    if row_s:
        most = min(max(BLOCK_S / row_s, batch), most)
    share = math.ceil(len(todo) / (workers * BLOCKS_OF_A_WORKER))
    return int(max(min(most, config.commit_rows(len(todo)) // BLOCKS_IN_A_COMMIT, share), 1))


def _images_per_row(todo: pa.Table, config: JobConfig) -> float:
    default = config.engine.options.num_images
    sample = [json.loads(options) for options in todo["options"][:1000].to_pylist()]
    images = [row.get("num_images", default) for row in sample]
    counted = [n if isinstance(n, int) and n > 0 else 1 for n in images]
    return sum(counted) / max(len(counted), 1)
