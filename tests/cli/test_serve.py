"""`rayedit serve` as an operator meets it: its flags and environment reach the server."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import ray

from serve_app.ingress.keys import KEYS_VARIABLE
from serve_app.ray_private import PROXY_TIMEOUT_VARIABLES
from tests.serving import ROOT, free_port, running_module

pytestmark = pytest.mark.slow  # a Ray of its own

CONFIG = "min_replicas: 0\ndecode_workers: 1\n"  # to refuse a key, no model need be loaded


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a Ray that was there before the server, with nothing of its environment."""
    for name, value in PROXY_TIMEOUT_VARIABLES.items():
        monkeypatch.setenv(name, value)
    yield ray.init(address="local", num_cpus=8, include_dashboard=False).address_info["gcs_address"]
    ray.shutdown()


def line(key: str) -> str:
    return f"{hashlib.sha256(key.encode()).hexdigest()} {key}"


def test_keys_of_the_flag_and_of_the_environment_guard_a_server_on_a_cluster(
    cluster: str, tmp_path: Path
) -> None:
    (tmp_path / "serve.yaml").write_text(CONFIG)
    (tmp_path / "keys").write_text(line("of-the-file"))
    port = free_port()
    command = ["cli.main", "serve", "--host", "0.0.0.0", "--port", str(port)]
    command += ["--config", str(tmp_path / "serve.yaml")]
    command += ["--api-keys-file", os.path.relpath(tmp_path / "keys", ROOT)]
    variables = {"RAY_ADDRESS": cluster, KEYS_VARIABLE: line("of-the-environment")}
    with running_module(command, port, tmp_path, "/healthz", **variables) as server:

        def status(**headers: str) -> int:
            return httpx.get(f"{server.url}/v1/models", headers=headers).status_code

        assert status() == status(authorization="Bearer made-up") == 401
        assert status(authorization="Bearer of-the-file") == 200
        assert status(authorization="Bearer of-the-environment") == 200


def test_a_public_address_without_keys_is_served_where_the_operator_insists() -> None:
    with socket.socket() as taken:  # so that it does not go as far as to start Ray
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        command = [sys.executable, "-m", "cli.main", "serve", "--host", "0.0.0.0", "--port"]
        command += [str(taken.getsockname()[1]), "--insecure-public"]
        failed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    assert "cannot listen on" in failed.stderr


def test_a_ray_that_does_not_start_is_one_sentence_and_exit_code_4(tmp_path: Path) -> None:
    """With no time for its control store, Ray does not start for real, as on a busy machine."""
    command = [sys.executable, "-m", "cli.main", "serve", "--port", str(free_port())]
    environment = {**os.environ, "RAY_gcs_server_port_wait_time_s": "0", "HOME": str(tmp_path)}
    environment.pop("RAY_ADDRESS", None)
    failed = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert failed.returncode == 4
    assert "rayedit: Ray did not start, tried twice" in failed.stderr
    assert "Traceback" not in failed.stderr
