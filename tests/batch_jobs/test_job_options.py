"""What a job says of all its rows: the row has the last word, and the fingerprint tells."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from batch_jobs.config import JobConfig
from batch_jobs.stopping import Exit
from cli.main import app
from engine.config import load_config
from engine.seeding import row_seed
from tests.batch_jobs.jobs import CONFIG, good_rows, job_here, ledger, left, run_here

Write = Callable[..., str]


def told(options: dict[str, Any] | None = None, **changes: Any) -> JobConfig:
    before = CONFIG.model_dump(exclude={"engine": {"options"}}) | changes
    before["engine"]["options"] = options or {}
    return load_config(None, JobConfig, **before)


def test_an_option_of_the_job_is_that_of_the_rows_that_do_not_say(
    manifest: Write, tmp_path: Path
) -> None:
    rows = good_rows(2)
    rows[0] |= {"num_images": 1, "resize": "fit"}
    del rows[1]["num_inference_steps"], rows[1]["guidance_scale"]
    options = {"num_images": 2, "resize": "crop", "num_inference_steps": 4, "guidance_scale": 4.0}
    config = told(options)
    assert run_here(manifest(rows), tmp_path / "out", config) == Exit.OK
    mute, said = ledger(tmp_path / "out")["row-1"], ledger(tmp_path / "out")["row-0"]
    assert {name: mute[name] for name in options} == options and len(mute["outputs"]) == 2
    assert (said["num_images"], said["resize"], len(said["outputs"])) == (1, "fit", 1)
    assert said["num_inference_steps"] == rows[0]["num_inference_steps"]


def test_another_option_of_the_job_is_another_edit(manifest: Write, tmp_path: Path) -> None:
    path, output = manifest(good_rows(3)), tmp_path / "out"
    assert run_here(path, output) == Exit.OK
    assert len(left(job_here(path, output)).todo) == 0
    for changed in (told({"resize": "pad"}), told(seed=1), told(same_seed=True)):
        assert len(left(job_here(path, output, changed)).todo) == 3


def test_rows_may_all_have_the_same_seed(manifest: Write, tmp_path: Path) -> None:
    rows = good_rows(3)
    rows[1]["seed"] = 99
    assert run_here(manifest(rows), tmp_path / "out", told(seed=7, same_seed=True)) == Exit.OK
    seeds = {id: row["seed"] for id, row in ledger(tmp_path / "out").items()}
    assert seeds == {"row-0": 7, "row-1": 99, "row-2": 7}
    assert row_seed(7, "row-0") != 7


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--guidance-scale", "99"], "engine.options.guidance_scale: must be less than"),
        (["--true-cfg-scale", "2"], "model pocket has no true_cfg_scale; it takes"),
        (["--size", "100x64"], "100 px is not possible with model pocket"),
        (["--seed", "-1"], "seed: must be greater than"),
    ],
)
def test_an_option_that_no_row_could_have_is_refused_before_anything_starts(
    manifest: Write, tmp_path: Path, flags: list[str], says: str
) -> None:
    done = CliRunner().invoke(app, ["batch", manifest(good_rows(1)), str(tmp_path / "out"), *flags])
    assert done.exit_code == Exit.REFUSED and says in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_flags_of_a_job_reach_its_rows(manifest: Write, tmp_path: Path) -> None:
    rows = [{"id": "a", "image": "coffee.jpg", "instruction": "add fog"}]
    flags = ["--no-restore-size", "--guidance-scale", "4", "--num-inference-steps", "2"]
    flags += ["--seed", "7", "--same-seed"]
    done = CliRunner().invoke(app, ["batch", manifest(rows), str(tmp_path / "out"), *flags])
    assert done.exit_code == Exit.OK, done.output
    row = ledger(tmp_path / "out")["a"]
    found = [row[name] for name in ("restore_size", "guidance_scale", "num_inference_steps")]
    assert (found, row["seed"]) == ([False, 4.0, 2], 7)
    config = json.loads((tmp_path / "out" / "job.json").read_text())["config"]
    assert config["engine"]["options"]["guidance_scale"] == 4.0
