"""Five times more than the server can do: it goes on at its pace, and refuses the rest at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

import numpy as np
import psutil
import pytest

from tests.serve_app.load import (
    Answer,
    closed_loop,
    for_seconds,
    median_s,
    memory_bytes,
    open_loop,
    processes_of,
)
from tests.serve_app.test_operations import metrics_of
from tests.serving import Server, eventually

OVERLOAD = 5
REFUSED_WITHIN_S = 0.15
MEMORY_BYTES = 80 * 2**20
NORMAL_AFTER_S = 5
REFUSALS = "rayedit_requests_total{overloaded}"
FILL_S = 1.0  # until the queue is full and answers come at the server's own pace


class Growth:
    """The most memory that the server took while the block ran, over what it had before. To look
    for its processes each time would take from it the processor that it is measured on."""

    def __init__(self, server: Server) -> None:
        self._server, self._done = server, threading.Event()
        self._processes = processes_of(server)
        self._before = memory_bytes(self._processes)
        self.size_bytes = 0
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._done.wait(0.5):
            self._look(self._processes)

    def _look(self, processes: Iterable[psutil.Process]) -> None:
        self.size_bytes = max(self.size_bytes, memory_bytes(processes) - self._before)

    def __enter__(self) -> Growth:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._look(processes_of(self._server))


def capacity(server: Server, seconds: float) -> float:
    """Edits a second that eight clients get out of it."""
    start = time.monotonic()
    answers = closed_loop(server, 8, for_seconds(seconds))
    assert {answer.status for answer in answers} == {200}
    return good_rate(answers, start, seconds)


def good_rate(answers: list[Answer], start_s: float, seconds: float) -> float:
    """Edits a second, from the first one after `FILL_S` to the first one after `seconds`: they
    come by the batch, and a window that cuts one in two would gain or lose a tenth."""
    ends = sorted(answer.ended_s - start_s for answer in answers if answer.status == 200)
    first, last = (next(end for end in ends if end > limit) for limit in (FILL_S, seconds))
    return sum(first < end <= last for end in ends) / (last - first)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seconds", "rounds", "share", "refused_within_s"),
    [
        # in six seconds of a busy machine nothing is known exactly
        pytest.param(6, 1, 0.5, 1.0, id="short"),
        # nor in twenty: the capacity itself was 2.7 to 4.4 in 14 turns, so both are taken in turn
        pytest.param(20, 6, 0.9, REFUSED_WITHIN_S, marks=pytest.mark.chaos, id="long"),
    ],
)
def test_five_times_too_much_is_refused_at_once_and_costs_the_others_nothing(
    server: Server, seconds: float, rounds: int, share: float, refused_within_s: float
) -> None:
    closed_loop(server, 8, for_seconds(2))
    normal_s = median_s(closed_loop(server, 1, for_seconds(seconds / 3)))
    counted = metrics_of(server).get(REFUSALS, 0)
    able, good, answers = [capacity(server, seconds)], [], []
    with Growth(server) as growth:
        for _ in range(rounds):
            start = time.monotonic()
            answers += (burst := open_loop(server, OVERLOAD * able[-1], seconds))
            good.append(good_rate(burst, start, seconds))
            time.sleep(max(start + seconds + NORMAL_AFTER_S - time.monotonic(), 0))
            after_s = median_s(closed_loop(server, 1, for_seconds(seconds / 3)))
            assert after_s <= 2 * normal_s
            able.append(capacity(server, seconds))
    refused = [answer for answer in answers if answer.status == 503]
    assert {answer.status for answer in answers} == {200, 503}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
    quick_s = [answer.latency_s for answer in refused]
    print(
        f"capacity {_rates(able)}, good {_rates(good)} ({np.mean(good) / np.mean(able):.2f}), "
        f"{len(refused)} of {len(answers)} refused within {np.percentile(quick_s, 50):.3f} (p50) "
        f"{np.percentile(quick_s, 99):.3f} (p99) {max(quick_s):.3f} s (max), "
        f"+{growth.size_bytes / 2**20:.0f} MiB, alone {normal_s:.3f} s before {after_s:.3f} s after"
    )
    assert eventually(lambda: metrics_of(server).get(REFUSALS, 0) - counted == len(refused))
    assert np.mean(good) >= share * np.mean(able)
    assert np.percentile(quick_s, 95) <= refused_within_s
    assert growth.size_bytes <= MEMORY_BYTES


def _rates(rates: list[float]) -> str:
    return " ".join(f"{rate:.2f}" for rate in rates) + "/s"
