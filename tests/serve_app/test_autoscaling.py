"""Replicas follow the traffic: one, three under load, one again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.serve_app.load import Answer, closed_loop
from tests.serving import REPLICA, SMALL, Server, running_server

PATIENCE_S = 120.0  # a replica loads torch and the model; three at a time on a small machine


@pytest.fixture(scope="module")
def elastic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = {
        "engine": SMALL,
        "min_replicas": 1,
        "max_replicas": 3,
        "target_ongoing_requests": 1,
        "upscale_delay_s": 1,
        "downscale_delay_s": 3,
        "max_wait_s": 300,
        "deadline_s": 300,
        "decode_workers": 1,
    }
    with running_server(config, tmp_path_factory.mktemp("elastic")) as running:
        yield running


def becomes(count: int, server: Server) -> bool:
    """Whether there come to be `count` replicas."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if len(server.pids(REPLICA)) == count:
            return True
        time.sleep(0.5)
    return False


@pytest.mark.chaos
def test_replicas_come_with_the_load_and_go_with_it(elastic: Server) -> None:
    assert becomes(1, elastic)
    quiet = threading.Event()
    answers: list[Answer] = []
    clients = threading.Thread(
        target=lambda: answers.extend(closed_loop(elastic, 8, lambda: not quiet.is_set()))
    )
    clients.start()
    try:
        assert becomes(3, elastic)
        time.sleep(10)  # all three at work
    finally:
        quiet.set()
        clients.join()
    assert becomes(1, elastic)
    assert {answer.status for answer in answers} == {200}
    assert {answer.status for answer in closed_loop(elastic, 1, _once())} == {200}


def _once() -> Callable[[], bool]:
    turns = iter([True])
    return lambda: next(turns, False)
