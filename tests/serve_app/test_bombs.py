"""Small files that cost much to decode: bounded in time and memory, and no replica notices."""

from __future__ import annotations

import threading

import httpx
import psutil
import pytest

from tests.serve_app.bombs import BOMBS, SIDE
from tests.serve_app.conftest import post_form
from tests.serving import INGRESS, REPLICA, Server

MOST_MEMORY = 512 * 2**20
MOST_S = 2.0


class Watch:
    """The processes below `pid`: the most memory that one of them had resident (`size_bytes`), and
    the processor time that all of them used (`used_s`), whether they lived on or not."""

    def __init__(self, pid: int) -> None:
        self._parent = psutil.Process(pid)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._times_s: dict[int, tuple[float, float]] = {}  # pid -> at first and at last
        self.size_bytes = 0

    @property
    def used_s(self) -> float:
        return sum(last - first for first, last in self._times_s.values())

    def _run(self) -> None:
        while not self._done.is_set():
            children = self._parent.children(recursive=True)
            for _ in range(20):
                self._look(children)
                self._done.wait(0.005)

    def _look(self, children: list[psutil.Process]) -> None:
        for child in children:
            try:
                self.size_bytes = max(self.size_bytes, child.memory_info().rss)
                time = child.cpu_times()
            except psutil.Error:
                continue
            now_s = time.user + time.system
            first_s, _ = self._times_s.get(child.pid, (now_s, now_s))
            self._times_s[child.pid] = first_s, now_s

    def __enter__(self) -> Watch:
        self._look(self._parent.children(recursive=True))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._look(self._parent.children(recursive=True))


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_bounded_in_time_and_memory(
    http: httpx.Client, server: Server, name: str
) -> None:
    bomb = BOMBS[name]()
    assert len(bomb) < 2 * 2**20
    (replica,), (ingress,) = server.pids(REPLICA), server.pids(INGRESS)
    with Watch(ingress) as decoders:
        response = post_form(http, bomb, num_inference_steps=1, restore_size="false")
    print(
        f"{name}: {response.elapsed.total_seconds():.2f} s, {decoders.used_s:.2f} s of processors"
    )
    assert response.status_code in (200, 400), response.text
    if response.status_code == 400:
        assert response.json()["error"]["code"].startswith("image_")
    else:  # what is refused by its first bytes may meet no decoder
        assert decoders.size_bytes > 2**20
    assert decoders.size_bytes <= MOST_MEMORY, f"{decoders.size_bytes / 2**20:.0f} MiB"
    assert decoders.used_s <= MOST_S
    assert (server.pids(REPLICA), server.pids(INGRESS)) == ([replica], [ingress])


def test_the_largest_photograph_is_given_back_at_its_own_size(http: httpx.Client) -> None:
    """But for WebP, whose encoder needs more memory: that is refused before the model runs."""
    photograph = BOMBS["PNG of 50 MP in a few KB"]()
    few = {"num_inference_steps": 1, "restore_size": "true"}
    finishing = (
        {"detail": "model"},
        {"detail": "source"},
        {"detail": "model", "preserve": "auto"},
        {"detail": "source", "preserve": "auto"},
    )
    for i, wishes in enumerate(finishing):
        name = ("png", "jpeg")[i % 2]
        response = post_form(http, photograph, output_format=name, **few, **wishes)
        answer = response.json()
        assert (response.status_code, answer.get("size")) == (200, f"{SIDE}x{SIDE}"), answer.get(
            "error"
        )
    for name, value in {"output_format": "webp", "return_mask": "true"}.items():
        error = post_form(http, photograph, **{name: value}, **few).json()["error"]
        assert (error["code"], error["param"]) == ("option_invalid", name)
