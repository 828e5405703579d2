"""Jobs of batches as processes of this machine: they end with the server, and the next goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.session import OURS
from serve_app.batches.keeper import BatchKeeper
from serve_app.config import ServeConfig
from storage.storage import Storage

MODULE = "batch_jobs.hosted"
STOP_S = 30.0  # for the block in hand, which takes 20 s at most


class Processes:
    """Starts a process for each batch; each has a Ray of its own."""

    def __init__(self, files_uri: str) -> None:
        self._files_uri = files_uri
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def runs(self, owner: str, id: str) -> bool:
        process = self._started.get(id)
        return process is not None and process.poll() is None

    def start(self, owner: str, id: str) -> None:
        # -P: modules are ours, and not those of the folder that a user happens to be in
        command = [sys.executable, "-P", "-m", MODULE, self._files_uri, owner, id]
        paths = [OURS, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        environment.pop("RAY_ADDRESS", None)
        # A session of its own: Ctrl-C is of the server, which then stops it in its own way.
        self._started[id] = subprocess.Popen(command, env=environment, start_new_session=True)

    def close(self) -> None:
        """Ask all of them to stop: what is done is kept."""
        deadline = time.monotonic() + STOP_S
        for process in self._started.values():
            if process.poll() is None:
                process.terminate()
        for process in self._started.values():
            try:
                process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


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
