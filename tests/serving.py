"""A real server for tests: `run_server` in a process of its own, on a free port."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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
SMALL = {"resolution": 64, "determinism": "strict"}  # pocket at 64 px: an edit takes a moment


def main(config: str, port: str, fault: str) -> None:
    """What runs in the server's process."""
    from engine.registry import find_model
    from serve_app.app import ServeConfig, run_server
    from tests.editors import faulty

    settings = ServeConfig.of(json.loads(config))
    spec = find_model(settings.engine.model, settings.engine.resolution)
    run_server(settings, port=int(port), spec=faulty(spec) if fault else None)


@dataclass(frozen=True)
class Server:
    """`url`: http://127.0.0.1:port; `log`: what the server wrote so far."""

    url: str
    process: subprocess.Popen[bytes]
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

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
    config: dict[str, Any], folder: Path, *, fault: bool = False, **variables: str
) -> Iterator[Server]:
    """A server of this `ServeConfig`, ready; its home and log lie in `folder`. `fault`: of the
    editor that fails when an instruction asks for it; `variables`: more of its environment."""
    port = free_port()
    module = ("tests.serving", json.dumps(config), str(port), fault * "fault")
    with running_module(module, port, folder, **variables) as server:
        yield server


@contextmanager
def running_module(
    module: Sequence[str], port: int, folder: Path, **variables: str
) -> Iterator[Server]:
    """A server that a module of ours with its arguments starts at this port, with more in its
    environment."""
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
        wait_until_ready(server)
        yield server
    finally:
        if process.poll() is None:
            try:
                server.stop()
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_ready(server: Server) -> None:
    """Returns when /readyz answers 200; fails with the log otherwise."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            if httpx.get(f"{server.url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    pytest.fail(f"the server did not become ready:\n{server.log[-4000:]}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """The pocket model at 64 px, `strict`, behind real HTTP. One server for the whole run, however
    many modules import this fixture."""
    if _SHARED not in request.config.stash:
        stack = ExitStack()
        folder = tmp_path_factory.mktemp("server")
        request.config.stash[_SHARED] = stack.enter_context(
            running_server({"engine": SMALL}, folder)
        )
        request.config.add_cleanup(stack.close)
    return request.config.stash[_SHARED]


if __name__ == "__main__":
    main(*sys.argv[1:])
