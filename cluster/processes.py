"""Processes that must not outlive what they were started for, and their end.

A Ray that is killed leaves its workers to notice it, which a starting one does after a minute.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable
from contextlib import suppress

import psutil

KILL_WAIT_S = 5.0  # a killed process is gone in milliseconds; Ray's own bound is 5 s too
_LOOK_S = 0.05


def with_descendants(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """List processes and all that was started below them; one whose parent has ended is no longer
    found."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            found += [process, *process.children(recursive=True)]
    return found


def of_session(leader_pid: int) -> list[psutil.Process]:
    """List the processes that run in the session that a process began, whether or not it and the
    parents of the others have ended."""
    found = []
    for pid in psutil.pids():
        with suppress(OSError, psutil.NoSuchProcess):  # ended meanwhile, or another user's
            if os.getsid(pid) == leader_pid:
                found.append(psutil.Process(pid))
    return [process for process in found if runs(process)]


def kill(processes: Collection[psutil.Process]) -> None:
    """Kill processes and wait until they have ended, `KILL_WAIT_S` at most."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    deadline = time.monotonic() + KILL_WAIT_S
    while any(map(runs, processes)) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)


def kill_session(leader_pid: int) -> None:
    """Kill the processes of a session, and those that they start meanwhile, for `KILL_WAIT_S` at
    most."""
    deadline = time.monotonic() + KILL_WAIT_S
    while (left := of_session(leader_pid)) and time.monotonic() < deadline:
        kill(left)


def runs(process: psutil.Process) -> bool:
    """Tell a process that runs from one that has ended; our own child is then forgotten."""
    try:
        if process.status() != psutil.STATUS_ZOMBIE:
            return process.is_running()
        if process.ppid() == os.getpid():
            process.wait(0)
        return False
    except psutil.NoSuchProcess:
        return False
    except psutil.TimeoutExpired:  # some of its threads have not ended
        return True
