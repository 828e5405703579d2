"""What a process has started ends with it, though its parents have gone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cluster.processes import kill_session, of_session

# Two that sleep: an orphan, and one in a process group of its own. Then it says so, and waits.
LEADER = """
import subprocess
subprocess.run("sleep 60 & exit", shell=True)
subprocess.Popen(["sleep", "60"], process_group=0)
print("ready", flush=True)
input()
"""


@pytest.fixture
def leader() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", LEADER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        yield process


def test_a_session_is_found_and_killed_whether_or_not_who_began_it_has_gone(
    leader: subprocess.Popen[bytes],
) -> None:
    with subprocess.Popen(["sleep", "60"]) as another:
        assert len(of_session(leader.pid)) == 3
        leader.kill()
        leader.wait()
        left = of_session(leader.pid)
        assert len(left) == 2 and all(each.name() == "sleep" for each in left)
        kill_session(leader.pid)
        assert of_session(leader.pid) == []
        assert another.poll() is None and os.getsid(0) != leader.pid
        another.kill()
