"""Replicas killed under load."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from tests.serve_app.editors import PACED
from tests.serve_app.load import Answer, closed_loop
from tests.serving import REPLICA, SMALL, Server, running_server

pytestmark = pytest.mark.slow  # a server of its own

CLIENTS = 8
PAUSE_S = 20.0  # between two deaths: a replica is back by then
RECOVERY_S = 5.0
ROUTED_S = 2.0  # until the ingress knows of a replica that has loaded


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two replicas that refuse nothing for want of time."""
    config = {
        "engine": SMALL,
        "min_replicas": 2,
        "max_replicas": 2,
        "max_wait_s": 300,
        "deadline_s": 300,
        "decode_workers": 1,
    }
    with running_server(config, tmp_path_factory.mktemp("pair"), editor=PACED) as running:
        yield running


class Killer:
    """SIGKILLs a replica `deaths` times while there are two, with a pause before each."""

    def __init__(self, server: Server, deaths: int, pause_s: float) -> None:
        self._server, self._deaths, self._pause_s = server, deaths, pause_s
        self.times_s: list[float] = []
        self.done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        for _ in range(self._deaths):
            time.sleep(self._pause_s)
            while len(replicas := self._loaded()) < 2:
                time.sleep(0.5)
            time.sleep(ROUTED_S)
            os.kill(random.choice(replicas), signal.SIGKILL)
            self.times_s.append(time.monotonic())
        time.sleep(RECOVERY_S)
        self.done.set()

    def _loaded(self) -> list[int]:
        """The replicas that can take over: Ray names a process after what it runs."""
        processes = self._server.processes().items()
        return [pid for pid, name in processes if name.startswith(REPLICA) and "init" not in name]

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()


def is_ours(answer: Answer) -> bool:
    """Whether a refusal is our JSON with a request id."""
    return '{"error":{"message":' in answer.text and bool(answer.headers.get("x-request-id"))


@pytest.mark.parametrize(
    ("deaths", "pause_s", "requests"),
    [
        pytest.param(1, 3.0, 10, id="one death"),
        pytest.param(10, PAUSE_S, 200, marks=pytest.mark.chaos, id="ten deaths"),
    ],
)
def test_no_request_is_lost_when_replicas_are_killed(
    pair: Server, deaths: int, pause_s: float, requests: int
) -> None:
    with Killer(pair, deaths, pause_s) as killer:
        answers = closed_loop(pair, CLIENTS, lambda: not killer.done.is_set())
    good_s = sorted(answer.ended_s for answer in answers if answer.status == 200)
    recoveries = [min(end for end in good_s if end > death) - death for death in killer.times_s]
    others = [answer for answer in answers if answer.status != 200]
    print(
        f"{len(answers)} requests, {len(others)} not 200 {[a.status for a in others]}, recoveries "
        + " ".join(f"{recovery:.1f}" for recovery in recoveries)
    )
    assert len(killer.times_s) == deaths and len(answers) >= requests
    assert [answer.text for answer in answers if answer.status == 0] == []  # lost
    assert [answer.text for answer in others if not is_ours(answer)] == []
    assert len(good_s) >= 0.99 * len(answers)
    assert max(recoveries) <= RECOVERY_S
