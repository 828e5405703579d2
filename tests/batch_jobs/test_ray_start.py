"""A job whose Ray does not start says so in one sentence, and loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from batch_jobs.ledger.lease import owner_of
from batch_jobs.stopping import Exit
from storage.storage import Storage
from tests.batch_jobs.jobs import good_rows, ledger
from tests.cli.test_cli import ROOT

SMALL = "engine: {resolution: 64}\n"


def job(manifest: str, output: Path, **variables: str) -> subprocess.Popen[str]:
    config = output.parent / "job.yaml"
    config.write_text(SMALL)
    return subprocess.Popen(
        [sys.executable, "-m", "batch_jobs", manifest, str(output), "--config", str(config)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )


@pytest.mark.slow
def test_a_job_without_ray_ends_with_4_and_one_sentence_and_goes_on_later(
    manifest: Callable[..., str], tmp_path: Path
) -> None:
    path, output = manifest(good_rows(2)), tmp_path / "out"
    process = job(path, output, RAY_gcs_server_port_wait_time_s="0")  # no time for its own store
    _, errors = process.communicate(timeout=120)
    assert process.returncode == Exit.STOPPED, errors
    assert "Traceback" not in errors
    told = [line for line in errors.splitlines() if "Ray did not start" in line]
    assert len(told) == 2, errors
    assert "trying once more" in told[0] and "run it again to go on" in told[1]
    assert owner_of(Storage(str(output))) is None and not (output / "_SUCCESS").exists()

    later = job(path, output)
    _, errors = later.communicate(timeout=300)
    assert later.returncode == Exit.OK, errors
    assert set(ledger(output)) == {row["id"] for row in good_rows(2)}


def freeze_raylets(driver: psutil.Process, most: int) -> threading.Thread:
    """Stop the first `most` raylets of a process as soon as they are there."""

    def watch() -> None:
        frozen: set[psutil.Process] = set()
        while driver.is_running() and driver.status() != psutil.STATUS_ZOMBIE:
            for child in set(driver.children()) - frozen:
                if len(frozen) < most and child.name() == "raylet":
                    child.suspend()
                    frozen.add(child)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


@pytest.mark.chaos
@pytest.mark.parametrize(("frozen", "code"), [(1, Exit.OK), (2, Exit.STOPPED)])
def test_a_job_whose_raylet_takes_too_long_is_given_a_second_one(
    manifest: Callable[..., str], tmp_path: Path, frozen: int, code: int
) -> None:
    path, output = manifest(good_rows(2)), tmp_path / "out"
    process = job(path, output)
    watcher = freeze_raylets(psutil.Process(process.pid), frozen)
    _, errors = process.communicate(timeout=300)
    watcher.join()
    assert process.returncode == code, errors
    assert "Ray did not start: The current node timed out during startup; trying" in errors
    assert "Traceback" not in errors
    assert (output / "_SUCCESS").exists() == (code == Exit.OK)
