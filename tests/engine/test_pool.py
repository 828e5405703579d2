"""What a decoder can do to us ends with its own process."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.errors import ImageUnsupported
from engine.images import decode
from engine.pool import DecodePool, TaskLost

BUDGET_S = 0.5


def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def allocate(size_bytes: int) -> int:
    return int(np.ones(size_bytes, np.uint8).sum())


def secrets(names: list[str]) -> list[str | None]:
    return [os.environ.get(name) for name in names]


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    pool = DecodePool(2, memory_bytes=256 * 2**20, clock_factor=60)
    for ready in [pool.submit(60, os.getpid) for _ in range(2)]:
        ready.result()
    yield pool
    pool.close()


def lost(pool: DecodePool, budget_s: float, *task: object) -> TaskLost:
    with pytest.raises(TaskLost) as caught:
        pool.submit(budget_s, *task).result(60)  # type: ignore[arg-type]
    return caught.value


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_task_that_computes_too_long_is_killed_and_its_neighbour_is_not(
    pool: DecodePool,
) -> None:
    neighbour = pool.submit(60, time.sleep, 1)
    spinner = pool.submit(BUDGET_S, spin, 1000)
    with pytest.raises(TaskLost) as caught:
        spinner.result(60)
    assert (caught.value.kind, caught.value.limit) == ("slow", "0.5 s")
    assert neighbour.result() is None
    assert len([pool.submit(60, os.getpid).result() for _ in range(4)]) == 4


def test_a_task_that_hangs_without_computing_is_killed_too(pool: DecodePool) -> None:
    start = time.monotonic()
    assert lost(pool, 0.05, time.sleep, 1000).kind == "busy"
    assert time.monotonic() - start > 60 * 0.05
    assert pool.submit(60, os.getpid).result() > 0


def test_a_task_that_crashes_its_process_is_told_from_one_that_fails(pool: DecodePool) -> None:
    assert lost(pool, 60, os.abort).kind == "died"
    with pytest.raises(ImageUnsupported):
        pool.submit(60, decode, b"not an image").result()


def test_a_task_ends_when_its_caller_has_gone(pool: DecodePool) -> None:
    stop = threading.Event()
    task = pool.submit(60, time.sleep, 3600, stop=stop)
    stop.set()
    with pytest.raises(TaskLost) as caught:
        task.result(30)
    assert caught.value.kind == "stopped"
    assert pool.submit(60, os.getpid).result() > 0


def suicide(signal_number: int) -> None:
    os.kill(os.getpid(), signal_number)


def test_a_process_that_the_machine_kills_is_not_held_against_its_task(pool: DecodePool) -> None:
    assert lost(pool, 60, suicide, signal.SIGKILL).kind == "killed"
    pids = {pool.submit(60, os.getpid).result() for _ in range(10)}
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert pool.submit(60, os.getpid).result() not in pids


def test_a_task_gets_no_more_memory_than_there_is(pool: DecodePool) -> None:
    assert lost(pool, 60, allocate, 300 * 2**20).kind == "memory"
    assert pool.submit(60, allocate, 100 * 2**20).result() == 100 * 2**20


def test_a_decoder_has_no_secrets_in_its_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAYEDIT_CANARY", "secret")
    pool = DecodePool(1)
    assert pool.submit(60, secrets, ["RAYEDIT_CANARY", "PATH"]).result() == [
        None,
        os.environ["PATH"],
    ]
    pool.close()


def test_closing_the_pool_ends_its_processes() -> None:
    pool = DecodePool(1)
    pid = pool.submit(60, os.getpid).result()
    assert is_there(pid)
    pool.close()
    assert not is_there(pid)
    with pytest.raises(RuntimeError):
        pool.submit(60, os.getpid)


def start_slowly() -> None:
    spin(1.0)


def test_what_a_process_takes_to_start_is_not_charged_to_a_task() -> None:
    """Also of one that comes in the place of one that was killed."""
    pool = DecodePool(1, clock_factor=60, load=start_slowly)
    for _ in range(2):
        assert pool.submit(0.3, os.getpid).result() > 0
        assert lost(pool, 60, os.abort).kind == "died"
    pool.close()
