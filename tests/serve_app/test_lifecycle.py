"""Deaths and ends: of a replica, of the ingress, of the whole server."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from engine import errors
from serve_app.app import run_server
from serve_app.config import ServeConfig
from serve_app.ray_private import PROXY_TIMEOUT_VARIABLES
from tests.serve_app.conftest import files_of, in_flight, post_form
from tests.serve_app.editors import PACED
from tests.serving import (
    CONTROLLER,
    INGRESS,
    REPLICA,
    ROOT,
    SMALL,
    Server,
    eventually,
    running_server,
    wait_until_ready,
)

pytestmark = pytest.mark.slow  # a server of its own, and replicas that die

CONFIG = {"engine": SMALL, "decode_workers": 1}
READY_VARIABLE, _ = PROXY_TIMEOUT_VARIABLES


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server to kill parts of, whose model fails where an instruction asks for it. An operator
    set how long a proxy may take to start."""
    folder = tmp_path_factory.mktemp("mortal")
    with running_server(CONFIG, folder, editor=PACED, **{READY_VARIABLE: "90"}) as running:
        yield running


def retries(server: Server) -> int:
    """Count the edits that were sent to a second replica, by the log."""
    return sum("sent to another" in line.get("message", "") for line in server.log_lines())


@pytest.mark.parametrize(
    ("prompt", "code"), [("fail in encode", "internal_error"), ("nan in encode", "non_finite")]
)
def test_a_fault_of_the_model_is_a_500_that_tells_nothing_of_our_insides(
    mortal: Server, photographs: dict[str, bytes], prompt: str, code: str
) -> None:
    with httpx.Client(base_url=mortal.url, timeout=60) as http, ThreadPoolExecutor(2) as threads:
        sent = [
            threads.submit(post_form, http, photographs["coffee"], prompt=text, seed=7)
            for text in (prompt, "make it night")
        ]
        bad, mate = (future.result() for future in sent)
    assert (bad.status_code, bad.json()["error"]["code"]) == (500, code)
    assert bad.json()["error"]["type"] == "server_error"
    assert not any(word in bad.text for word in ("injected", "RuntimeError", "Traceback", ".py"))
    assert mate.status_code == 200


def test_an_edit_whose_replica_dies_is_made_by_another(
    mortal: Server, photographs: dict[str, bytes]
) -> None:
    """One retry: the edit waits for the replica that replaces the dead one."""
    options = {"seed": 7, "num_inference_steps": 100, "n": 2}
    with httpx.Client(base_url=mortal.url, timeout=90) as http, ThreadPoolExecutor(1) as thread:
        undisturbed = files_of(post_form(http, photographs["coffee"], **options))
        before = retries(mortal)
        long = thread.submit(post_form, http, photographs["coffee"], **options)
        assert eventually(lambda: in_flight(http) == 1)
        (replica,) = mortal.pids(REPLICA)
        os.kill(replica, signal.SIGKILL)
        assert files_of(long.result()) == undisturbed
        assert retries(mortal) == before + 1
        assert mortal.pids(REPLICA) != [replica]


def test_an_edit_that_kills_every_replica_is_given_up_after_the_second(
    mortal: Server, photographs: dict[str, bytes]
) -> None:
    with httpx.Client(base_url=mortal.url, timeout=90) as http:
        response = post_form(http, photographs["coffee"], prompt="exit in encode")
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (503, "worker_crashed")
        assert response.headers["x-should-retry"] == "false"
        wait_until_ready(mortal)
        assert post_form(http, photographs["coffee"], num_inference_steps=4).status_code == 200


def test_a_replica_whose_thread_has_died_refuses_nobody(
    mortal: Server, photographs: dict[str, bytes]
) -> None:
    """It ends at the next edit, which another makes: its own 503s would come faster than Serve's
    health checks."""
    before = mortal.pids(REPLICA)
    with httpx.Client(base_url=mortal.url, timeout=90) as http:
        response = post_form(http, photographs["coffee"], prompt="end the thread in encode")
        assert response.status_code == 500
        assert post_form(http, photographs["coffee"], num_inference_steps=4).status_code == 200
        assert set(mortal.pids(REPLICA)).isdisjoint(before)


def test_an_edit_whose_ingress_dies_gets_our_error_and_a_later_one_is_made(
    mortal: Server, photographs: dict[str, bytes]
) -> None:
    long = {"num_inference_steps": 100, "n": 4}
    with httpx.Client(base_url=mortal.url, timeout=90) as http, ThreadPoolExecutor(1) as thread:
        lost = thread.submit(post_form, http, photographs["coffee"], **long)
        assert eventually(lambda: in_flight(http) == 1)
        (ingress,) = mortal.pids(INGRESS)
        os.kill(ingress, signal.SIGKILL)
        response = lost.result()
        assert (response.status_code, response.json()["error"]["code"]) == (503, "worker_crashed")
        assert len(response.headers["x-request-id"]) == 32
        wait_until_ready(mortal)
        assert post_form(http, photographs["coffee"], num_inference_steps=4).status_code == 200


def test_a_redeploy_under_traffic_fails_no_request(
    mortal: Server, photographs: dict[str, bytes]
) -> None:
    """A new version starts, takes over, and the old one ends what it has."""
    commands = " ".join(mortal.processes().values())
    gcs = re.findall(r"--gcs-address=(\S+)", commands)
    before = mortal.pids(REPLICA) + mortal.pids(INGRESS)
    config = json.dumps({**CONFIG, "deadline_s": 50})
    port = mortal.url.rpartition(":")[2]
    command = [sys.executable, "-m", "tests.serve_app.redeploy", gcs[0], config, port]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    statuses = []
    with (
        httpx.Client(base_url=mortal.url, timeout=60) as http,
        subprocess.Popen(command, cwd=ROOT, env=environment) as redeploy,
    ):
        while redeploy.poll() is None or set(before) & set(mortal.processes()):
            response = post_form(http, photographs["coffee"], num_inference_steps=10)
            statuses.append(response.status_code)
            time.sleep(0.05)
    assert redeploy.returncode == 0
    assert set(statuses) == {200} and len(statuses) > 10
    assert len(mortal.pids(REPLICA)) == len(mortal.pids(INGRESS)) == 1


def test_a_ray_of_its_own_waits_for_serves_proxy_as_the_operator_says_or_longer_than_serve(
    mortal: Server,
) -> None:
    for pid in mortal.pids(CONTROLLER):
        variables = dict(
            entry.split("=", 1)
            for entry in Path(f"/proc/{pid}/environ").read_text().split("\0")
            if "=" in entry
        )
        expected = {**PROXY_TIMEOUT_VARIABLES, READY_VARIABLE: "90"}
        assert {name: variables.get(name) for name in expected} == expected
    assert mortal.pids(CONTROLLER)


def test_sigterm_ends_the_server_and_everything_it_started(mortal: Server) -> None:
    assert len(mortal.processes()) > 5
    assert mortal.stop() == 0
    assert eventually(lambda: mortal.processes() == {})
    assert "graceful_shutdown failed" not in mortal.log
    assert mortal.log.splitlines()[-1] == "stopped"


def test_a_port_that_is_taken_is_refused_before_ray_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(errors.OptionInvalid, match=str(port)):
            run_server(ServeConfig(), port=port)


def test_an_unknown_model_is_refused_before_ray_starts() -> None:
    with pytest.raises(errors.ModelUnknown):
        run_server(ServeConfig.of({"engine.model": "no-such-model"}))
