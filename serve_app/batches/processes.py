"""Jobs of batches as processes of this machine: they end with the server, and the next goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.processes import kill_session
from cluster.session import OURS
from serve_app.batches.keeper import BatchKeeper
from serve_app.config import ServeConfig
from storage.storage import Storage

MODULE = "batch_jobs.hosted"
LIFELINE = "--lifeline"  # the job ends when its standard input does
STOP_S = 30.0  # for the block in hand, which takes 20 s at most


class Processes:
    """Starts a process for each batch; each has a Ray of its own, and nothing of either outlives
    this process, even where it is killed."""

    def __init__(self, files_uri: str) -> None:
        self._files_uri = files_uri
        self._started: dict[str, _Started] = {}

    def runs(self, owner: str, id: str) -> bool:
        started = self._started.get(id)
        return started is not None and not started.has_ended(0)

    def start(self, owner: str, id: str) -> None:
        # -P: modules are ours, and not those of the folder that a user happens to be in
        command = [sys.executable, "-P", "-m", MODULE, self._files_uri, owner, id, LIFELINE]
        paths = [OURS, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        environment.pop("RAY_ADDRESS", None)
        running = {id: each for id, each in self._started.items() if not each.has_ended(0)}
        self._started = {**running, id: _Started(command, environment)}

    def close(self) -> None:
        """Ask all of them to stop, so that what is done is kept, and kill those that do not."""
        deadline = time.monotonic() + STOP_S
        for started in self._started.values():
            started.process.terminate()
        try:
            for started in self._started.values():
                started.has_ended(max(deadline - time.monotonic(), 0))
        finally:  # a second Ctrl-C among them
            for started in self._started.values():
                started.process.kill()
                started.has_ended()


class _Started:
    """A process and all that it starts: a session of its own, so that Ctrl-C is of the server,
    which then stops it in its own way. What it leaves is killed."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, start_new_session=True
        )
        self._thread = threading.Thread(target=self._wait, name="batch", daemon=True)
        self._thread.start()

    def has_ended(self, timeout_s: float | None = None) -> bool:
        """Tell whether nothing of it is left, at the latest after `timeout_s`."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _wait(self) -> None:
        with self.process:  # its standard input is closed, it is waited for
            self.process.wait()
        kill_session(self.process.pid)


@contextmanager
def batch_processes(config: ServeConfig) -> Iterator[None]:
    """Look after the batches of a server for the length of a `with` block, where it has any."""
    if config.files_uri is None:
        yield
        return
    jobs = Processes(config.files_uri)
    keeper = BatchKeeper(Storage(config.files_uri), jobs, config.batches_at_once)
    keeper.start()
    try:
        yield
    finally:
        keeper.close()
