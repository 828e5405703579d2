"""A real server for tests: `run_server` in a process of its own, on a free port."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parent.parent
START_TIMEOUT_S = 300.0  # a replica loads torch; a busy machine takes minutes for it
STOP_TIMEOUT_S = 60.0
_SHARED: pytest.StashKey[Server] = pytest.StashKey()
REPLICA = "ray::ServeReplica:rayedit:EditReplica"
INGRESS = "ray::ServeReplica:rayedit:EditIngress"
PROXY = "ray::ProxyActor"
CONTROLLER = "ray::ServeController"
# pocket at 64 px: an edit takes a moment. One thread: two wait for each other at every barrier, for
# minutes where other work has a core.
SMALL = {"resolution": 64, "determinism": "strict", "num_threads": 1}


def main(config: str, port: str, editor: str) -> None:
    """Serve, in a process of its own."""
    from serve_app.app import ServeConfig, run_server
    from serve_app.served import find_models

    settings = ServeConfig.of(json.loads(config))
    models = find_models(settings)
    if editor:
        models = [replace(model, spec=replace(model.spec, editor=editor)) for model in models]
    run_server(settings, port=int(port), models=models)


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    url: str  # http://127.0.0.1:port
    process: subprocess.Popen[bytes]
    log_file: Path  # its standard output and error

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def told(self, name: str) -> str:
        """Return where the server said at its start that its metrics or logs are."""
        assert eventually(lambda: f"{name}: " in self.log), self.log[-2000:]
        return re.findall(rf"{name}: ([^\s;]+)", self.log)[0]

    def log_lines(self) -> list[dict[str, Any]]:
        """Read the JSON lines of Serve's logs."""
        files = sorted(Path(self.told("logs")).glob("*.log"))
        kinds = {file.name.partition("_")[0] for file in files}
        assert kinds >= {"controller", "proxy", "replica"}, kinds
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def processes(self) -> dict[int, str]:
        """pid -> command line of everything the server started: its home marks them."""
        mark = f"HOME={self.log_file.parent}".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    command = (entry / "cmdline").read_bytes().decode()
                    found[int(entry.name)] = command.replace("\0", " ")
            except (OSError, ValueError):
                continue
        return found

    def pids(self, name: str) -> list[int]:
        """Of the processes whose command begins with `name`, such as `REPLICA`."""
        return [pid for pid, command in self.processes().items() if command.startswith(name)]

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_TIMEOUT_S)


@contextmanager
def running_server(
    config: dict[str, Any], folder: Path, *, editor: str = "", **variables: str
) -> Iterator[Server]:
    """A server of this `ServeConfig`, ready; its home and log lie in `folder`. `editor`: one in
    place of the model's, as "module:Class"; `variables`: more of its environment."""
    port = free_port()
    module = ("tests.serving", json.dumps(config), str(port), editor)
    with running_module(module, port, folder, **variables) as server:
        yield server


@contextmanager
def running_module(
    module: Sequence[str], port: int, folder: Path, ready: str = "/readyz", **variables: str
) -> Iterator[Server]:
    """A server that a module of ours with its arguments starts at this port, with more in its
    environment. `ready`: the path that answers 200 then."""
    log_file = folder / "server.log"
    environment = {
        **os.environ,
        "HOME": str(folder),
        "RAY_AUTH_MODE": "disabled",
        "RAY_metrics_report_interval_ms": "1000",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_worker_niceness": "0",  # 15 by default: whatever else runs would come first
    }
    environment.pop("RAY_ADDRESS", None)
    environment |= variables
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *module],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(f"http://127.0.0.1:{port}", process, log_file)
    try:
        wait_until_ready(server, ready)
        yield server
    finally:
        if process.poll() is None:
            try:
                server.stop()
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_ready(server: Server, path: str = "/readyz") -> None:
    """Returns when the path answers 200; fails with the log otherwise."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            if httpx.get(f"{server.url}{path}", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    pytest.fail(f"the server did not become ready:\n{server.log[-4000:]}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def eventually(found: Callable[[], bool], timeout_s: float = 30) -> bool:
    """Wait until something is found; returns whether it was."""
    deadline = time.monotonic() + timeout_s
    while not found() and time.monotonic() < deadline:
        time.sleep(0.05)
    return found()


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """The pocket model at 64 px, `strict`, behind real HTTP, with files and batches. One server for
    the whole run, however many modules import this fixture."""
    if _SHARED not in request.config.stash:
        stack = ExitStack()
        folder = tmp_path_factory.mktemp("server")
        config = {"engine": SMALL, "max_wait_s": 5, "files_uri": str(folder / "files")}
        request.config.stash[_SHARED] = stack.enter_context(running_server(config, folder))
        request.config.add_cleanup(stack.close)
    return request.config.stash[_SHARED]


if __name__ == "__main__":
    main(*sys.argv[1:])
