"""Five rows say how long the job will take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from batch_jobs.config import JobConfig
from batch_jobs.manifest.plan import open_manifest
from batch_jobs.validation.check import ManifestCheck
from batch_jobs.validation.estimate import Estimate, duration
from engine.config import EngineConfig
from engine.spec import ModelSpec
from tests.batch_jobs.editors import dry
from tests.batch_jobs.manifests import GOOD, checked, rows
from tests.cli.test_cli import rayedit

Write = Callable[..., str]


def test_a_good_manifest_is_told_so_and_its_time_is_estimated(manifest: Write) -> None:
    config = manifest(rows(0), "none.parquet").replace("none.parquet", "job.yaml")
    Path(config).write_text("engine: {resolution: 64}\nnum_gpus: 1\nmax_workers: 3\n")
    heavy = rows(400, caption="a cup") + [row | {"num_images": 2} for row in rows(200)]
    for i, row in enumerate(heavy):
        row["id"] = str(i)
    path = manifest(heavy)
    done = rayedit("validate", path, "--config", config, "--estimate")
    assert (done.returncode, done.stderr) == (0, "")
    counts, unused, estimate, times = done.stdout.splitlines()
    assert counts == f"{path}: 600 rows in 1 file, 20 images opened"
    assert unused == "  columns that mean nothing to an edit, in the ledger's `carried`: caption"
    assert estimate.startswith("  estimate: 5 rows in ") and "s of loading" in estimate
    assert times.startswith("  about, by number of actors (GPUs): 1: ") and " 3: " in times


def test_the_estimate_goes_with_images_steps_and_size(manifest: Write) -> None:
    parts = [rows(1)[0], {**GOOD, "num_images": 4}, {**GOOD, "num_inference_steps": 20}]
    parts.append({**GOOD, "size": "256x128"})
    for i, row in enumerate(parts):
        row["id"] = str(i)
    estimate = Estimate(checked(manifest(parts)))
    assert np.allclose(estimate.work() / estimate.work()[0], [1, 4, 10, 2])


def test_a_row_that_the_model_refuses_is_found_by_the_estimate(
    manifest: Write, pocket: ModelSpec
) -> None:
    many = rows(5)
    many[2]["instruction"] = "fail in encode"
    config = JobConfig(engine=EngineConfig(resolution=64))
    check = ManifestCheck(open_manifest(manifest(many)), config, dry(pocket))
    check.check_rows()
    assert check.problems == []
    told = Estimate(check).run()
    assert "by number of machines like this one: 1: " in told  # on CPUs actors share the cores
    (problem,) = check.problems
    assert "internal_error" in problem and "row-2: RuntimeError: injected fault" in problem


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (600, "10 min"), (12000, "3 h 20 min"), (1e6, "11 d 13 h")],
)
def test_a_duration_reads_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text
