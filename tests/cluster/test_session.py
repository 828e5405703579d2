"""Ray starts, or starts the second time, or is said in one sentence not to have started.

With `RAY_gcs_server_port_wait_time_s=0` Ray gives its control store no time: each start fails for
real, as on a machine that is too busy, and leaves that process running.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
import ray
from ray._private.node import Node

from cluster.processes import runs, with_descendants
from cluster.session import joined_ray, local_ray
from engine.errors import ClusterUnavailable, OptionInvalid


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("RAY_gcs_server_port_wait_time_s", "0")
    return "RAY_gcs_server_port_wait_time_s"


@contextmanager
def between_the_starts(act: Callable[[], object]) -> Iterator[None]:
    """Call `act` when the session tells that it tries once more."""

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            act()

    logger, listener = logging.getLogger("cluster.session"), Listener()
    logger.addHandler(listener)
    try:
        yield
    finally:
        logger.removeHandler(listener)


def processes() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> list[psutil.Process]:
    """The raylet and those below it, which get no processor when Ray ends: it kills the raylet
    after a second, and nobody tells the others."""
    found: list[psutil.Process] = []
    others = processes()  # the Ray of other tests among them
    end = Node.kill_all_processes

    def freeze_and_end(node: Node, **options: Any) -> None:
        raylets = [each for each in processes() - others if each.name() == "raylet"]
        found.extend(with_descendants(raylets))
        for process in found:
            process.suspend()
        end(node, **options)

    monkeypatch.setattr(Node, "kill_all_processes", freeze_and_end)
    return found


@ray.remote
def double(number: int) -> int:
    return 2 * number


def test_ray_that_does_not_start_is_tried_once_more_and_leaves_no_process_that_hangs(
    impatient: str, frozen: list[psutil.Process], caplog: pytest.LogCaptureFixture
) -> None:
    before = processes()
    patience = between_the_starts(lambda: os.environ.pop(impatient))
    with patience, local_ray(idle_workers=1, log_to_driver=False):
        stores = [each for each in processes() - before if each.name() == "gcs_server"]
        assert len(stores) == 1, "the control store of the first start still runs"
        assert ray.get(double.remote(21)) == 42
    assert len(frozen) > 2 and not [each for each in frozen if runs(each)]
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [record.name for record in warnings] == ["cluster.session"]
    assert not ray.is_initialized()


def test_ray_that_never_starts_is_one_sentence_and_leaves_no_process(
    impatient: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = processes()
    refusal = pytest.raises(ClusterUnavailable, match="tried twice: Timed out waiting for")
    with refusal as refused, local_ray(idle_workers=1):
        pytest.fail("it started")
    assert "\n" not in refused.value.message and "load is" in refused.value.message
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.messages[0].startswith("Ray did not start: Timed out waiting for")
    assert processes() == before
    assert not ray.is_initialized()


def test_a_process_that_is_not_rays_outlives_a_failed_start(impatient: str) -> None:
    others: list[subprocess.Popen[bytes]] = []
    done = threading.Event()

    def keep_starting() -> None:
        while not done.wait(0.005):
            others.append(subprocess.Popen(["sleep", "60"]))

    thread = threading.Thread(target=keep_starting)
    thread.start()
    try:
        with pytest.raises(ClusterUnavailable), local_ray(idle_workers=1):
            pytest.fail("it started")
    finally:
        done.set()
        thread.join()
        ended = [process for process in others if process.poll() is not None]
        for process in others:
            process.kill()
            process.wait()
    assert len(others) > 1 and not ended


def test_no_cluster_at_an_address_is_a_mistake_of_the_option() -> None:
    refusal = pytest.raises(OptionInvalid, match="--address or RAY_ADDRESS: ")
    with refusal, joined_ray("http://head:8265"):
        pytest.fail("it connected")


def test_a_ray_that_is_one_programs_own_is_not_joined_and_that_is_said_at_once() -> None:
    """As `--address auto` finds one where a server runs; Ray takes 127.0.0.1 for the machine."""
    with socket.create_server(("127.0.0.1", 0)) as own:
        port = own.getsockname()[1]
        refusal = pytest.raises(OptionInvalid, match=f"no Ray listens at .*:{port} .* its own")
        with refusal, joined_ray(f"127.0.0.1:{port}"):
            pytest.fail("it connected")
