"""A job under a ControlNet, over Ray: the edges of each image, or a control image of the row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batch_jobs.config import JobConfig
from batch_jobs.stopping import Exit
from engine.config import EngineConfig
from tests.batch_jobs.jobs import digests, ledger, run_here, run_job
from tests.batch_jobs.shapes import write_lines
from tests.conftest import photograph, png

PHOTO = photograph("coffee")[100:164, 150:214]
FILES = {
    "photo.png": PHOTO,
    "drawn.png": PHOTO[::-1].copy(),
    "flat.png": np.full((64, 64, 3), 128, np.uint8),
    "small.png": PHOTO[:32],
}
ROWS: dict[str, dict[str, Any]] = {
    "edges": {},
    "finer": {"canny_low_threshold": 10, "canny_high_threshold": 30},
    "drawn": {"image": ["photo.png", "drawn.png"]},
    "from the source": {"strength": 0.5},
    "half of the run": {"control_guidance_end": 0.5},
    "flat": {"image": "flat.png"},
    "another size": {"image": ["photo.png", "small.png"]},
}


@pytest.mark.slow
def test_a_job_under_a_controlnet_gives_the_same_bytes_over_ray_as_in_one_process(
    cluster: None, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    for name, pixels in FILES.items():
        (tmp_path / name).write_bytes(png(pixels))
    edit = {"image": "photo.png", "instruction": "in oil", "num_inference_steps": 4, "seed": 7}
    rows = [{"id": id, **edit, **given} for id, given in ROWS.items()]
    manifest = write_lines(tmp_path / "m.jsonl", rows)
    engine = EngineConfig(model=str(tiny("sd15-canny")), determinism="strict", num_threads=1)
    config = JobConfig(engine=engine, min_workers=2, max_workers=2, rows_per_block=2)
    spec = engine.find_model()
    assert run_job(manifest, tmp_path / "ray", config) == Exit.FAILED_ROWS
    assert run_here(manifest, tmp_path / "here", config, spec) == Exit.FAILED_ROWS

    over_ray, here = ledger(tmp_path / "ray"), ledger(tmp_path / "here")
    bad = over_ray.pop("another size")
    assert (bad["error_code"], bad["error_param"]) == ("option_invalid", "image")
    made = {id: digests(row) for id, row in over_ray.items()}
    assert made == {id: digests(here[id]) for id in over_ray}
    assert len({digest for (digest,) in made.values()}) == len(ROWS) - 1
    assert [id for id, row in over_ray.items() if row["warnings"]] == ["flat"]
    assert over_ray["flat"]["warnings"] == ["control_empty"]
    assert over_ray["half of the run"]["control_guidance_end"] == 0.5
