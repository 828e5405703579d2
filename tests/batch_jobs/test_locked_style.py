"""Sixty photographs of different shapes in one style: the same bytes, whoever edits them, when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batch_jobs.config import JobConfig
from engine.config import EngineConfig
from tests.batch_jobs.jobs import digests, ledger, run_here, run_job
from tests.batch_jobs.shapes import write_lines
from tests.conftest import PHOTOGRAPHS, jpeg, photograph

ENGINE = EngineConfig(resolution=64, determinism="strict", num_threads=1)
LOCKED = JobConfig(engine=ENGINE, style="sketch", rows_per_block=5, rows_per_commit=20)


def write_photographs(folder: Path, count: int) -> list[dict[str, Any]]:
    """Crops of real photographs, no two of one shape; their rows."""
    generator, rows = np.random.default_rng(11), []
    for i in range(count):
        whole = photograph(PHOTOGRAPHS[i % len(PHOTOGRAPHS)])
        height, width = (int(generator.integers(side // 3, side)) for side in whole.shape[:2])
        top, left = (
            int(generator.integers(0, n)) for n in (whole.shape[0] - height, whole.shape[1] - width)
        )
        (folder / f"{i}.jpg").write_bytes(jpeg(whole[top : top + height, left : left + width]))
        rows.append({"id": f"{i}", "image": f"{i}.jpg", "num_inference_steps": 2})
    return rows


@pytest.mark.slow
def test_a_locked_style_gives_the_same_bytes_in_any_order_and_number_of_workers(
    tmp_path: Path,
) -> None:
    rows = write_photographs(tmp_path, 60)
    forward = write_lines(tmp_path / "forward.jsonl", rows)
    backward = write_lines(tmp_path / "backward.jsonl", rows[::-1])
    from engine.registry import find_model

    pocket = find_model("pocket", 64)
    assert run_here(forward, tmp_path / "here", LOCKED, pocket) == 0
    three = LOCKED.model_copy(update={"min_workers": 3, "max_workers": 3})
    assert run_job(backward, tmp_path / "three", three) == 0
    made = [
        {id: digests(row) for id, row in ledger(tmp_path / name).items()}
        for name in ("here", "three")
    ]
    assert len(made[0]) == 60 and made[0] == made[1]
    assert {row["seed"] for row in ledger(tmp_path / "three").values()} == {42}
