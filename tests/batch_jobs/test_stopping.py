"""A job that is killed or asked to stop goes on where it was, and loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from batch_jobs.ledger.lease import owner_of
from batch_jobs.status import describe
from batch_jobs.stopping import Exit, StopSignals
from storage.storage import Storage
from tests.batch_jobs.jobs import digests, good_rows, ledger, run_job
from tests.cli.test_cli import ROOT
from tests.serving import eventually

CONFIG = """
engine: {resolution: 64, determinism: strict}
rows_per_block: 3
rows_per_commit: 3
"""


def start(manifest: str, output: Path, more: str = "") -> subprocess.Popen[str]:
    config = output.parent / "job.yaml"
    config.write_text(CONFIG + more)
    return subprocess.Popen(
        [sys.executable, "-m", "batch_jobs", manifest, str(output), "--config", str(config)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ},
    )


def wait_for_a_commit(output: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if list(output.glob("results/*.parquet")):
            return
        time.sleep(0.05)
    pytest.fail(f"nothing was committed: {process.communicate()}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGKILL, -9, marks=pytest.mark.chaos)],
)
def test_a_stopped_job_goes_on_where_it_was(
    cluster: None,
    manifest: Callable[..., str],
    tmp_path: Path,
    number: signal.Signals,
    code: int,
) -> None:
    path, output = manifest(good_rows(30)), tmp_path / "out"
    process = start(path, output)
    assert eventually(lambda: owner_of(Storage(str(output))) is not None, 120)
    refused = start(path, output)
    assert refused.wait(60) == 2
    assert f"in use by process {process.pid}" in (refused.stderr.read() if refused.stderr else "")
    assert f"held by process {process.pid}" in describe(Storage(str(output)))
    wait_for_a_commit(output, process)
    process.send_signal(number)
    assert process.wait(60) == code
    done = ledger(output)
    assert 0 < len(done) < 30 and not (output / "_SUCCESS").exists()
    if code > 0 and process.stderr is not None:
        words = process.stderr.read().splitlines()[-1]
        assert words == f"rayedit: {len(done)} of 30 rows done, 0 failed: the same command goes on"

    assert f"{len(done)} of 30 rows: {len(done)} ok" in describe(Storage(str(output)))
    assert run_job(path, output) == Exit.OK
    assert "30 of 30 rows: 30 ok, 0 failed" in describe(Storage(str(output)))
    assert "finished" in describe(Storage(str(output)))
    resumed = ledger(output)
    assert set(resumed) == {row["id"] for row in good_rows(30)}
    for id, row in done.items():
        assert resumed[id]["finished_at"] == row["finished_at"]
    assert all(
        digests(row) == [out["sha256"] for out in row["outputs"]] for row in resumed.values()
    )
    assert {"ray", "torch"}.isdisjoint(modules_of_another_run(path, output))
    if number == signal.SIGKILL:  # in the long proof, the bytes of a run that nothing disturbed
        assert run_job(path, tmp_path / "undisturbed") == Exit.OK
        undisturbed = ledger(tmp_path / "undisturbed")
        assert {id: digests(row) for id, row in resumed.items()} == {
            id: digests(row) for id, row in undisturbed.items()
        }


def test_a_job_stopped_while_ray_starts_ends_with_143(
    manifest: Callable[..., str], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    process = start(manifest(good_rows(4)), output)
    driver, deadline = psutil.Process(process.pid), time.monotonic() + 120
    while not driver.children() and time.monotonic() < deadline:  # Ray's first
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert owner_of(Storage(str(output))) is None


def test_the_last_commit_of_a_stopped_job_may_take_its_time() -> None:
    with StopSignals(grace_s=0.1) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        stop.arrived()
        time.sleep(0.3)  # a commit to storage far away
    assert stop.exit == 143


def test_a_job_that_is_overdue_ends_with_its_signal_wherever_it_stands() -> None:
    reached = []
    with StopSignals(grace_s=0.1) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        reached.append("the end")
    assert (stop.exit, reached) == (143, [])


def modules_of_another_run(manifest: str, output: Path) -> set[str]:
    """What the same command imports when there is nothing left to do; it takes under 10 s."""
    config = str(output.parent / "job.yaml")
    command = [sys.executable, "-X", "importtime", "-m", "batch_jobs", manifest, str(output)]
    ran = subprocess.run(
        [*command, "--config", config],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    assert "30 rows: 30 ok" in ran.stdout
    return {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}


@pytest.mark.chaos
def test_a_job_that_waits_for_workers_in_vain_ends_when_it_is_asked_to(
    manifest: Callable[..., str], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    process = start(manifest(good_rows(4)), output, "num_gpus: 64")
    deadline = time.monotonic() + 120
    while not (output / "job.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(20)  # Ray is up, and no worker will ever be
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert owner_of(Storage(str(output))) is None
    assert process.stderr is not None
    assert "takes 64 GPUs and Ray has 0" in process.stderr.read()
