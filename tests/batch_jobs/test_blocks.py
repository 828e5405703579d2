"""How the rows of a job are cut into blocks."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from batch_jobs.config import JobConfig
from batch_jobs.stages.blocks import BLOCKS_IN_A_COMMIT, rows_per_block
from engine.config import EngineConfig, load_config

CONFIGS = Path(__file__).parents[2] / "configs" / "batch"


def plan(rows: int, **options: object) -> pa.Table:
    return pa.table({"options": [json.dumps(options)] * rows})


def config(**changes: object) -> JobConfig:
    given = {"engine": EngineConfig(max_batch_size=8), "rows_per_commit": 256, **changes}
    return JobConfig(**given)


@pytest.mark.parametrize(
    ("row_s", "rows"),
    [(None, 32), (0.01, 32), (1.0, 20), (5.0, 8), (60.0, 8)],
    ids=["not yet measured", "cheap", "20 s a block", "a batch at least", "dear"],
)
def test_a_block_is_one_to_four_batches_by_what_a_row_costs(row_s: float | None, rows: int) -> None:
    assert rows_per_block(plan(10_000), config(), 1, row_s) == rows


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_blocks_of_our_configs_fit_their_commits(path: Path) -> None:
    config = load_config(path, JobConfig)
    most = config.commit_rows(10_000) // BLOCKS_IN_A_COMMIT
    assert rows_per_block(plan(10_000), config) <= most


def test_several_images_a_row_make_fewer_rows_a_batch() -> None:
    assert rows_per_block(plan(10_000, num_images=4), config()) == 8


def test_blocks_leave_work_for_every_worker_and_fit_a_commit() -> None:
    assert rows_per_block(plan(96), config(), workers=4) == 6
    assert rows_per_block(plan(10_000), config(rows_per_commit=32)) == 4
    assert rows_per_block(plan(1), config()) == 1
    assert rows_per_block(plan(10_000), config(rows_per_block=100)) == 100
