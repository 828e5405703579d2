"""300 mixed edits by three models while a replica of one is killed and another sleeps and wakes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest

import rayedit
from engine.images import encode
from tests.serve_app.conftest import PROMPT, files_of, post_form
from tests.serving import Server, eventually, running_server

pytestmark = pytest.mark.chaos

POCKET, KILLED, ASLEEP = "pocket", "kontext", "dreamlite"  # each of another family
ENGINE = {"resolution": 64, "determinism": "strict", "num_threads": 1}
EDITS = 100  # by each model
PERIOD_S = 0.4  # of a client, so that the others go on through each disturbance
PATIENCE_S = 120.0
SEEDS = range(4)
Expected = dict[tuple[str, int], bytes]


@pytest.fixture(scope="module")
def three(
    tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    asleep = {"min_replicas": 0, "downscale_delay_s": 5, "upscale_delay_s": 0}
    config = {
        "engine": ENGINE,
        "models": {
            POCKET: {},
            KILLED: {"engine": {"model": str(tiny("flux-kontext"))}},
            ASLEEP: {"engine": {"model": str(tiny("dreamlite"))}, **asleep},
        },
        "decode_workers": 1,
        "max_wait_s": 300,
        "deadline_s": 300,
    }
    with running_server(config, tmp_path_factory.mktemp("three")) as running:
        assert eventually(lambda: "Ctrl-C stops" in running.log, PATIENCE_S), running.log
        yield running


@dataclass(frozen=True, slots=True)
class Sent:
    """An edit as its client saw it."""

    model: str
    seed: int
    latency_s: float
    status: int
    text: str  # of what is no 200
    answered_by: str = ""
    file: bytes = b""


def edit(client: httpx.Client, photograph: bytes, model: str, seed: int) -> Sent:
    start_s = time.monotonic()
    fields = {"model": model, "seed": seed, "num_inference_steps": 4}
    answer = post_form(client, photograph, **fields)
    took_s = time.monotonic() - start_s
    if answer.status_code != 200:
        return Sent(model, seed, took_s, answer.status_code, answer.text)
    (file,) = files_of(answer)
    return Sent(model, seed, took_s, 200, "", answer.json()["model"], file)


def paced(
    server: Server, photograph: bytes, model: str, between: Callable[[int], object]
) -> list[Sent]:
    """`EDITS` edits, one at a time; `between(k)` before each."""
    sent = []
    with httpx.Client(base_url=server.url, timeout=310) as client:
        for k in range(EDITS):
            between(k)
            next_s = time.monotonic() + PERIOD_S
            sent.append(edit(client, photograph, model, SEEDS[k % len(SEEDS)]))
            time.sleep(max(next_s - time.monotonic(), 0))
    return sent


def replicas(server: Server, model: str) -> list[int]:
    return server.pids(f"ray::ServeReplica:{model}:EditReplica")


def mixed(server: Server, photograph: bytes, disturbed: bool) -> list[Sent]:
    """The edits of all three models at once, undisturbed or not."""

    def kill(k: int) -> None:
        if disturbed and k == EDITS // 4:
            (pid,) = replicas(server, KILLED)
            os.kill(pid, signal.SIGKILL)

    def sleep(k: int) -> None:
        if disturbed and k == 2 * EDITS // 5:
            assert eventually(lambda: not replicas(server, ASLEEP), PATIENCE_S)

    between = {POCKET: lambda _: None, KILLED: kill, ASLEEP: sleep}
    with ThreadPoolExecutor(len(between)) as threads:
        clients = [
            threads.submit(paced, server, photograph, model, act) for model, act in between.items()
        ]
        return [one for client in clients for one in client.result()]


def p95_s(sent: list[Sent], model: str) -> float:
    return float(np.percentile([one.latency_s for one in sent if one.model == model], 95))


def by_the_engine(model: str, photograph: bytes, folder: Path) -> bytes:
    """The file that the engine alone makes of the edit of seed 1."""
    (folder / "coffee.jpg").write_bytes(photograph)
    with rayedit.Editor(model, **ENGINE) as editor:
        image = editor.edit(folder / "coffee.jpg", PROMPT, seed=1, num_inference_steps=4)
    return encode(image, command=image.info["parameters"])


def test_no_edit_is_lost_and_none_is_made_by_another_model(
    three: Server,
    photographs: dict[str, bytes],
    tiny: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    photograph = photographs["coffee"]
    expected: Expected = {}
    with httpx.Client(base_url=three.url, timeout=310) as client:
        for model in (POCKET, KILLED, ASLEEP):
            for seed in SEEDS:
                expected[model, seed] = edit(client, photograph, model, seed).file
    assert len(set(expected.values())) == 3 * len(SEEDS)
    assert expected[KILLED, 1] == by_the_engine(str(tiny("flux-kontext")), photograph, tmp_path)
    (before,) = replicas(three, KILLED)
    calm = mixed(three, photograph, disturbed=False)
    stormy = mixed(three, photograph, disturbed=True)
    assert replicas(three, KILLED) != [before]
    for name, sent in (("calm", calm), ("disturbed", stormy)):
        told = (f"{model} {1000 * p95_s(sent, model):.0f} ms" for model in (POCKET, KILLED, ASLEEP))
        print(f"{name}: {len(sent)} edits, p95 {', '.join(told)}")
    print(f"p95 of {POCKET}: {p95_s(stormy, POCKET) / p95_s(calm, POCKET):.2f} times the calm one")
    for sent in (calm, stormy):
        assert len(sent) == 3 * EDITS
        assert [one.text for one in sent if one.status != 200] == []  # lost
        assert [one for one in sent if one.answered_by != one.model] == []
        assert [one for one in sent if one.file != expected[one.model, one.seed]] == []
