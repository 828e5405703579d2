"""What `rayedit batch` says when a job has ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from batch_jobs.__main__ import say_how_far
from batch_jobs.config import JobConfig
from batch_jobs.job import Job
from batch_jobs.ledger.entry import Entry, to_ledger
from batch_jobs.stopping import Exit
from cli.main import app
from engine.edit import EditFailure
from engine.errors import ImageNotFound
from tests.batch_jobs.jobs import good_rows, job_here
from tests.batch_jobs.test_job import after_the_first_block
from tests.cli.test_cli import ROOT


def test_the_summary_names_only_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("id,image,instruction\na,none.jpg,add fog\n")
    job = Job.open(str(tmp_path / "m.csv"), str(tmp_path / "out"), JobConfig())
    row = Entry("a", fingerprint=job.plan.rows["fingerprint"][0].as_py(), instruction="add fog")
    row.fail(EditFailure.of("a", ImageNotFound("none.jpg: not found")))
    job.ledger.append(to_ledger([row]))
    done = CliRunner().invoke(app, ["batch", str(tmp_path / "m.csv"), str(tmp_path / "out")])
    assert done.exit_code == Exit.FAILED_ROWS
    named = [line.split()[-1].rpartition("/out/")[2] for line in done.stdout.splitlines()[1:]]
    assert done.stdout.startswith("1 row: 0 ok, 1 failed (image_not_found 1)\n")
    assert named == ["results/", "report.html", "failed.csv"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_last_word_of_a_stopped_job_is_what_is_done_and_how_it_goes_on(
    manifest: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    job = job_here(manifest(good_rows(20)), tmp_path / "out")
    code = after_the_first_block(job, lambda: os.kill(os.getpid(), number)).run()
    assert code == 128 + number
    say_how_far(job, code)
    words = capsys.readouterr().err.splitlines()[-1]
    assert words == "rayedit: 10 of 20 rows done, 0 failed: the same command goes on"


@pytest.mark.slow
def test_a_run_says_nothing_that_is_not_rayedits(
    tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    (tmp_path / "coffee.jpg").write_bytes(photographs["coffee"])
    (tmp_path / "m.csv").write_text("id,image,instruction\na,coffee.jpg,add fog\n")
    flags = ["--num-inference-steps", "1", "--no-restore-size", "--detail", "model"]
    environment = {name: v for name, v in os.environ.items() if name != "RAY_AUTH_MODE"}
    done = subprocess.run(
        [sys.executable, "-m", "batch_jobs", tmp_path / "m.csv", tmp_path / "out", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == Exit.OK, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines[-1]["done"] == lines[-1]["total"] == 1
    assert done.stdout.startswith("1 row: 1 ok\n")
