"""A disk that fills up stops the job; with room again, the same command ends it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.batch_jobs.jobs import digests, good_rows, ledger
from tests.batch_jobs.test_stopping import CONFIG
from tests.serving import ROOT

NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]
SCRIPT = """
mount -t tmpfs -o size={size} tmpfs {disk} || exit 99
{job}; first=$?
cp -r {disk}/out {kept}
mount -o remount,size=100m {disk} || exit 99
{job}; second=$?
cp -r {disk}/out {whole}
echo $first $second
"""


def can_mount() -> bool:
    try:
        return subprocess.run([*NAMESPACE, "true"], check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.chaos
@pytest.mark.skipif(not can_mount(), reason="needs Linux where unshare may mount a tmpfs")
@pytest.mark.parametrize("size", ["4k", "250k"])
def test_a_full_disk_stops_the_job_with_4_and_more_room_ends_it(
    manifest: Callable[..., str], tmp_path: Path, size: str
) -> None:
    """4k: not even the lease fits; 250k: about half of the images."""
    path, disk = manifest(good_rows(40)), tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "job.yaml").write_text(CONFIG)
    job = [sys.executable, "-m", "batch_jobs", path, str(disk / "out")]
    script = SCRIPT.format(
        size=size,
        disk=disk,
        job=shlex.join([*job, "--config", str(tmp_path / "job.yaml")]),
        kept=tmp_path / "kept",
        whole=tmp_path / "whole",
    )
    ran = subprocess.run(
        [*NAMESPACE, "sh", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
        env={**os.environ},
    )
    assert ran.stdout.split()[-2:] == ["4", "0"], ran.stderr
    assert "No space left on device" in ran.stderr and "run it again" in ran.stderr
    assert "Traceback" not in ran.stderr
    kept = [id for part in (tmp_path / "kept").glob("results/*.parquet") for id in ids(part)]
    assert len(set(kept)) == len(kept) < 40
    whole = ledger(tmp_path / "whole")
    assert len(whole) == 40
    for row in whole.values():
        moved = [
            {"uri": out["uri"].replace(str(disk / "out"), str(tmp_path / "whole"))}
            for out in row["outputs"]
        ]
        assert digests({"outputs": moved}) == [out["sha256"] for out in row["outputs"]]


def ids(part: Path) -> list[str]:
    return pq.read_table(part, columns=["id"])["id"].to_pylist()
