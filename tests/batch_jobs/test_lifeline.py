"""A job ends with the server that started it, though nobody is left to tell it."""

from __future__ import annotations

import subprocess
import sys

import psutil

from cluster.processes import runs
from tests.cli.test_cli import ROOT
from tests.serving import eventually

STOPS = """
import signal, sys, time
from batch_jobs.hosted.lifeline import end_with
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
end_with(0)
print("ready", flush=True)
time.sleep(60)
"""
# It does not stop, and has started one in a process group of its own, whose pid it says.
HANGS = """
import signal, subprocess, time
from batch_jobs.hosted.lifeline import end_with
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "60"], process_group=0, stdin=subprocess.DEVNULL)
end_with(0, patience_s=0.2)
print(child.pid, flush=True)
time.sleep(60)
"""


def started(code: str) -> tuple[subprocess.Popen[str], str]:
    """A process whose standard input is ours, and its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_a_job_stops_as_if_it_was_told_when_its_server_has_gone() -> None:
    process, _ = started(STOPS)
    with process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 7


def test_one_that_does_not_is_killed_with_all_that_it_started() -> None:
    process, said = started(HANGS)
    child = psutil.Process(int(said))
    with process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == -9
    assert eventually(lambda: not runs(child))
