"""Two jobs never write one output; a dead holder does not block it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from batch_jobs.ledger.lease import BOOT_ID, PATH, Lease
from batch_jobs.storage.storage import Storage
from cli.status import describe, status
from engine.errors import OutputBusy, OutputUnusable
from tests.serving import ROOT

ELSEWHERE = {"host": "elsewhere", "machine": "another"}

OWN_PIDS = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
HOLD = """
import sys
from batch_jobs.ledger.lease import Lease, Storage
with Lease(Storage(sys.argv[1]), beat_every_s=0.1):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path, **changes: object) -> None:
    """Leave a lease behind as if `changes` had held it."""
    storage = Storage(str(folder))
    with Lease(storage):
        content = json.loads(storage.read(PATH))
    storage.publish(PATH, json.dumps({**content, **changes}).encode())


@contextmanager
def beating(folder: Path) -> Iterator[None]:
    """The holder of the lease there beats once, in a moment."""
    storage = Storage(str(folder))
    held = json.loads(storage.read(PATH))
    later = json.dumps({**held, "beat": held["beat"] + 1}).encode()
    timer = threading.Timer(0.2, storage.publish, (PATH, later))
    timer.start()
    try:
        yield
    finally:
        timer.join()


def test_a_second_job_is_refused_and_told_who_holds_the_output(tmp_path: Path) -> None:
    with (
        Lease(Storage(str(tmp_path))),
        pytest.raises(OutputBusy, match=r"in use by process \d+ on"),
        Lease(Storage(str(tmp_path))),
    ):
        pass
    with Lease(Storage(str(tmp_path))):
        pass
    assert not (tmp_path / PATH).exists()


def test_a_dead_holder_on_this_host_is_replaced_at_once(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    holder(tmp_path, pid=int(done.stdout), process_start="1")
    with Lease(Storage(str(tmp_path))):
        pass


def test_a_holder_in_another_container_of_this_host_is_watched(tmp_path: Path) -> None:
    """It has the host's name, but its pid is not one of ours."""
    if not shutil.which("unshare") or subprocess.call([*OWN_PIDS, "true"]):
        pytest.skip("no pid namespace can be made here")
    command = [*OWN_PIDS, sys.executable, "-c", HOLD, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with (
            pytest.raises(OutputBusy, match="in use by process 1 on"),
            Lease(Storage(str(tmp_path))),
        ):
            pass
        process.communicate()
    assert process.returncode == 0


def test_a_reused_pid_is_not_its_former_owner(tmp_path: Path) -> None:
    holder(tmp_path, process_start="1")
    with Lease(Storage(str(tmp_path))):
        pass


def test_a_killed_holder_that_nobody_waited_for_is_dead(tmp_path: Path) -> None:
    """As in a container whose first process reaps nobody: its entry stays."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    killed = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with killed:
        assert killed.stdout is not None and killed.stdout.readline() == b"held\n"
        killed.kill()
        while psutil.Process(killed.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        with Lease(Storage(str(tmp_path))):
            pass


@pytest.mark.skipif(not os.path.exists(BOOT_ID), reason="only Linux counts ticks since boot")
def test_a_clock_that_is_set_kills_no_holder(tmp_path: Path) -> None:
    """What names the holder's process is not computed from the time of day."""
    with Lease(Storage(str(tmp_path))):
        found = json.loads((tmp_path / PATH).read_text())
    ticks = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    assert found["process_start"] == ticks
    assert found["machine"].startswith(Path(BOOT_ID).read_text().strip())
    assert not any(isinstance(value, float) for value in found.values())


def test_a_remote_holder_is_dead_when_its_beat_stands_still(tmp_path: Path) -> None:
    holder(tmp_path, **ELSEWHERE)
    with Lease(Storage(str(tmp_path)), dead_after_s=0.5):
        pass


def test_a_remote_holder_that_beats_is_alive(tmp_path: Path) -> None:
    holder(tmp_path, **ELSEWHERE)
    with (
        pytest.raises(OutputBusy, match="elsewhere"),
        beating(tmp_path),
        Lease(Storage(str(tmp_path)), 5.0),
    ):
        pass


@pytest.mark.parametrize("beats", [False, True])
def test_status_watches_a_remote_holder(tmp_path: Path, beats: bool) -> None:
    holder(tmp_path, **ELSEWHERE)
    storage = Storage(str(tmp_path))
    job = {"rows": 5, "rows_to_edit": 3, "model": "pocket", "manifest": "m.csv"}
    job["started_at"] = datetime.now(UTC).isoformat()
    storage.publish("job.json", json.dumps(job).encode())
    state = "held by process" if beats else "stopped; the same command goes on"
    with beating(tmp_path) if beats else nullcontext():
        assert state in describe(storage, watch_s=0.6)


def test_the_status_of_what_is_no_output_is_refused() -> None:
    with pytest.raises(OutputUnusable, match="ftp://"):
        status("ftp://somewhere/out")


@pytest.mark.parametrize("over_a_dead_lease", [False, True])
def test_of_many_that_start_at_once_one_wins(tmp_path: Path, over_a_dead_lease: bool) -> None:
    if over_a_dead_lease:
        holder(tmp_path, process_start="1")
    won, lost = [], []
    start, finish = threading.Barrier(8), threading.Event()

    def compete() -> None:
        start.wait()
        try:
            with Lease(Storage(str(tmp_path))):
                won.append(1)
                finish.wait(10)
        except OutputBusy:
            lost.append(1)

    threads = [threading.Thread(target=compete) for _ in range(8)]
    for thread in threads:
        thread.start()
    while len(won) + len(lost) < 8:
        if len(lost) == 7:
            break
    finish.set()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)


@pytest.mark.parametrize("place", [{}, ELSEWHERE])
def test_who_died_while_it_buried_a_dead_holder_does_not_block_the_output(
    tmp_path: Path, place: dict[str, str]
) -> None:
    holder(tmp_path, process_start="1")
    storage = Storage(str(tmp_path))
    dead = json.loads(storage.read(PATH))
    author = {**dead, "token": "another", **place}
    storage.publish(f"journal/dead-{dead['token']}-0", json.dumps(author).encode())
    with Lease(storage, dead_after_s=0.2):
        assert json.loads(storage.read(PATH))["token"] not in (dead["token"], "another")


def test_who_buries_a_dead_holder_now_is_waited_for(tmp_path: Path) -> None:
    holder(tmp_path, process_start="1")
    storage = Storage(str(tmp_path))
    dead = json.loads(storage.read(PATH))
    with Lease(Storage(str(tmp_path / "other"))):
        living = json.loads(Storage(str(tmp_path / "other")).read(PATH))
    storage.publish(f"journal/dead-{dead['token']}-0", json.dumps(living).encode())
    with pytest.raises(OutputBusy, match="at the same moment"), Lease(storage):
        pass
    assert json.loads(storage.read(PATH)) == dead


def test_a_holder_that_stood_still_looks_before_it_writes(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    with Lease(storage, beat_every_s=3600.0) as lease:  # as still as its process was
        lease.check()
        other = {**json.loads(storage.read(PATH)), "token": "another"}
        storage.publish(PATH, json.dumps(other).encode())
        with pytest.raises(OutputBusy, match="taken"):
            lease.check()


def test_a_holder_that_was_taken_over_stops_writing(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    with Lease(storage, beat_every_s=0.05) as lease:
        lease.check()
        other = {**json.loads(storage.read(PATH)), "token": "another"}
        storage.publish(PATH, json.dumps(other).encode())
        time.sleep(0.5)
        with pytest.raises(OutputBusy, match="taken"):
            lease.check()
    assert json.loads(storage.read(PATH))["token"] == "another"
