"""Two jobs never write one output; a dead owner does not block it."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from batch_jobs.ledger.lease import Lease, owner_of
from batch_jobs.ledger.owner import BOOT_ID, Owner
from batch_jobs.status import describe
from cli.status import status
from engine.errors import OutputBusy, OutputUnusable
from storage.storage import Storage
from tests.serving import ROOT

ELSEWHERE = {"host": "elsewhere", "machine": "another"}

OWN_PIDS = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
OWN = """
import sys
from batch_jobs.ledger.lease import Lease, Storage
with Lease(Storage(sys.argv[1]), beat_every_s=0.1):
    print("owned", flush=True)
    sys.stdin.read()
"""


FIRST, SECOND = "lease/00000001.json", "lease/00000002.json"


def own(folder: Path, path: str = FIRST, **changes: Any) -> None:
    """Leave a lease behind as if a process like this one, but for `changes`, had taken it."""
    Storage(str(folder)).publish(path, replace(Owner(), **changes).as_json())


@contextmanager
def beating(folder: Path) -> Iterator[None]:
    """The owner beats once, in a moment."""
    storage = Storage(str(folder))
    owner = owner_of(storage)
    assert owner is not None
    later = replace(owner, beat=owner.beat + 1).as_json()
    timer = threading.Timer(0.2, storage.publish, (FIRST, later))
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
    assert owner_of(Storage(str(tmp_path))) is None


def test_a_dead_owner_on_this_host_is_replaced_at_once(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    own(tmp_path, pid=int(done.stdout), process_start="1")
    with Lease(Storage(str(tmp_path))):
        pass


def test_an_owner_in_another_container_of_this_host_is_watched(tmp_path: Path) -> None:
    """It has the host's name, but its pid is not one of ours."""
    if not shutil.which("unshare") or subprocess.call([*OWN_PIDS, "true"]):
        pytest.skip("no pid namespace can be made here")
    command = [*OWN_PIDS, sys.executable, "-c", OWN, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:
        assert process.stdout is not None and process.stdout.readline() == "owned\n"
        with (
            pytest.raises(OutputBusy, match="in use by process 1 on"),
            Lease(Storage(str(tmp_path))),
        ):
            pass
        process.communicate()
    assert process.returncode == 0


def test_a_reused_pid_is_not_its_former_owner(tmp_path: Path) -> None:
    own(tmp_path, process_start="1")
    with Lease(Storage(str(tmp_path))):
        pass


def test_a_killed_owner_that_nobody_waited_for_is_dead(tmp_path: Path) -> None:
    """As in a container whose first process reaps nobody: its entry stays."""
    command = [sys.executable, "-c", OWN, str(tmp_path)]
    killed = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with killed:
        assert killed.stdout is not None and killed.stdout.readline() == b"owned\n"
        killed.kill()
        while psutil.Process(killed.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        with Lease(Storage(str(tmp_path))):
            pass


@pytest.mark.skipif(not os.path.exists(BOOT_ID), reason="only Linux counts ticks since boot")
def test_a_clock_that_is_set_kills_no_owner(tmp_path: Path) -> None:
    """What names the owner's process is not computed from the time of day."""
    with Lease(Storage(str(tmp_path))):
        found = json.loads((tmp_path / FIRST).read_text())
    ticks = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    assert found["process_start"] == ticks
    assert found["machine"].startswith(Path(BOOT_ID).read_text().strip())
    assert not any(isinstance(value, float) for value in found.values())


def test_a_remote_owner_is_dead_when_its_beat_stands_still(tmp_path: Path) -> None:
    own(tmp_path, **ELSEWHERE)
    with Lease(Storage(str(tmp_path)), dead_after_s=0.5):
        pass


def test_a_remote_owner_that_beats_is_alive(tmp_path: Path) -> None:
    own(tmp_path, **ELSEWHERE)
    with (
        pytest.raises(OutputBusy, match="elsewhere"),
        beating(tmp_path),
        Lease(Storage(str(tmp_path)), 5.0),
    ):
        pass


@pytest.mark.parametrize("beats", [False, True])
def test_status_watches_a_remote_owner(tmp_path: Path, beats: bool) -> None:
    own(tmp_path, **ELSEWHERE)
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
        own(tmp_path, process_start="1")
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


def test_the_next_owner_removes_what_earlier_ones_left(tmp_path: Path) -> None:
    for _ in range(3):
        with Lease(Storage(str(tmp_path))):
            pass
    assert [path.name for path in (tmp_path / "lease").iterdir()] == ["00000003.json"]


class SlowStorage(Storage):
    """Waits before it creates a file until it may."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.waits, self.may = threading.Event(), threading.Event()

    def publish_new(self, path: str, data: bytes) -> bool:
        self.waits.set()
        self.may.wait(10)
        return super().publish_new(path, data)


@pytest.mark.parametrize("later", [1, 2, 3])
def test_who_was_slow_to_take_a_dead_owners_place_does_not_take_the_next_ones(
    tmp_path: Path, later: int
) -> None:
    """It saw the dead one; `later` others came since, and the last of them is there."""
    own(tmp_path, process_start="1")
    slow, refused = SlowStorage(str(tmp_path)), []

    def compete() -> None:
        try:
            with Lease(slow):
                pass
        except OutputBusy as error:
            refused.append(error.message)

    thread = threading.Thread(target=compete)
    thread.start()
    assert slow.waits.wait(10)
    for _ in range(later - 1):
        with Lease(Storage(str(tmp_path))):
            pass
    with Lease(Storage(str(tmp_path))) as lease:
        slow.may.set()
        thread.join()
        assert len(refused) == 1 and "at the same moment" in refused[0]
        lease.check()
    assert owner_of(Storage(str(tmp_path))) is None


class Turns:
    """Lets one thread at a time do one thing in storage, drawn from a seed."""

    def __init__(self, seed: int, threads: int) -> None:
        self._dice = random.Random(seed)
        self._changed = threading.Condition()
        self._waiting: set[int] = set()
        self._running = threads

    def take(self) -> None:
        """Wait until it is this thread's turn: when all others wait for theirs, too."""
        me = threading.get_ident()
        with self._changed:
            self._waiting.add(me)
            self._draw()
            self._changed.wait_for(lambda: me not in self._waiting, 20)

    def end(self) -> None:
        with self._changed:
            self._running -= 1
            self._draw()

    def _draw(self) -> None:
        if self._waiting and len(self._waiting) == self._running:
            self._waiting.remove(self._dice.choice(sorted(self._waiting)))
            self._changed.notify_all()


class TakingTurns(Storage):
    """Does each thing at its turn."""

    turns: Turns

    def read(self, path: str) -> bytes:
        self.turns.take()
        return super().read(path)

    def list(self, folder: str, suffix: str = "") -> list[str]:
        self.turns.take()
        return super().list(folder, suffix)

    def publish_new(self, path: str, data: bytes) -> bool:
        self.turns.take()
        return super().publish_new(path, data)

    def publish(self, path: str, data: bytes) -> None:
        self.turns.take()
        super().publish(path, data)

    def remove(self, path: str) -> None:
        self.turns.take()
        super().remove(path)


@pytest.mark.parametrize("seed", range(100))
def test_in_any_order_of_their_steps_no_two_own_an_output(seed: int) -> None:
    """Four processes take it three times each; every other time they die as its owner."""
    url = f"memory://turns-{seed}"
    storage, plain = TakingTurns(url), Storage(url)
    storage.turns = turns = Turns(seed, threads=4)
    inside: list[int] = []
    crowds: list[int] = []

    def live(number: int) -> None:
        for life in range(3):
            with suppress(OutputBusy), Lease(storage, beat_every_s=3600.0):
                inside.append(number)
                crowds.append(len(inside))
                turns.take()
                inside.remove(number)
                if (number + life) % 2:  # nobody else moves: the highest lease is its own
                    last = plain.list("lease")[-1]
                    plain.publish(last, Owner(process_start="1").as_json())
        turns.end()

    threads = [threading.Thread(target=live, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert crowds and max(crowds) == 1


def test_an_owner_that_stood_still_looks_before_it_writes(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    with Lease(storage, beat_every_s=3600.0) as lease:  # as still as its process was
        lease.check()
        own(tmp_path, SECOND)
        with pytest.raises(OutputBusy, match="taken"):
            lease.check()


def test_an_owner_that_was_taken_over_stops_writing(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    with Lease(storage, beat_every_s=0.05) as lease:
        lease.check()
        own(tmp_path, SECOND, token="another")
        time.sleep(0.5)
        before = (tmp_path / FIRST).read_bytes()
        with pytest.raises(OutputBusy, match="taken"):
            lease.check()
        time.sleep(0.2)
        assert (tmp_path / FIRST).read_bytes() == before
    owner = owner_of(storage)
    assert owner is not None and owner.token == "another"
