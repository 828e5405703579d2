"""Several models behind one real server: one works, one is there when asked, one cannot be.

Their editor imports no model; `test_many_models_chaos` has real ones.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serve_app.conftest import post_form
from tests.serve_app.editors import PACED
from tests.serve_app.test_operations import metrics_of
from tests.serve_app.test_refusals import check_error
from tests.serving import Server, eventually, running_server

pytestmark = pytest.mark.slow  # a server of its own

ENGINE = {"resolution": 64, "determinism": "strict", "num_threads": 1}
FAST = {"num_inference_steps": 2, "seed": 7}
START_TIMEOUT_S = 120.0  # a replica imports torch and diffusers; a busy machine takes long


@pytest.fixture(scope="module")
def damaged(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that says what it is, with a file in it that an editor cannot read."""
    folder = tmp_path_factory.mktemp("models") / "damaged"
    shutil.copytree(tiny("instruct-pix2pix"), folder)
    (folder / "scheduler" / "scheduler_config.json").write_text("no scheduler")
    return folder


@pytest.fixture(scope="module")
def config(tiny: Callable[[str], Path], damaged: Path) -> dict[str, Any]:
    asleep = {"min_replicas": 0, "downscale_delay_s": 2, "upscale_delay_s": 0}
    return {
        "engine": ENGINE,
        "decode_workers": 1,
        "deadline_s": 120,
        "models": {
            "pocket": {},
            "small": {"engine": {"model": str(tiny("instruct-pix2pix"))}, **asleep},
            "damaged": {"engine": {"model": str(damaged)}},
        },
        "aliases": {"gpt-image-1": "small"},
    }


@pytest.fixture(scope="module")
def many(config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(config, tmp_path_factory.mktemp("many"), editor=PACED) as running:
        assert eventually(lambda: "Ctrl-C stops" in running.log, START_TIMEOUT_S), running.log
        yield running


@pytest.fixture(scope="module")
def client(many: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=many.url, timeout=150) as client:
        yield client


def statuses(client: httpx.Client) -> dict[str, str]:
    return {model["id"]: model["status"] for model in client.get("/v1/models").json()["data"]}


def replicas(server: Server, model: str) -> list[int]:
    return server.pids(f"ray::ServeReplica:{model}:EditReplica")


def test_a_model_that_cannot_be_loaded_is_named_and_stops_no_other(
    many: Server, client: httpx.Client, damaged: Path, photographs: dict[str, bytes]
) -> None:
    (said,) = [line for line in many.log.splitlines() if line.startswith("damaged cannot be")]
    assert str(damaged) in said
    assert said.endswith("; its edits are refused, those by others made")
    assert "pocket, small, damaged: http" in many.log
    assert statuses(client) == {"pocket": "ready", "small": "idle", "damaged": "failed"}
    assert client.get("/readyz").json()["models"] == statuses(client)
    refused = post_form(client, photographs["coffee"], model="damaged", **FAST)
    message = check_error(refused, 503, "not_ready", None)
    assert "model damaged cannot be loaded" in message
    assert refused.headers["x-should-retry"] == "false"
    assert post_form(client, photographs["coffee"], **FAST).json()["model"] == "pocket"


def test_the_first_edit_waits_for_a_model_of_no_replica_which_goes_when_nobody_asks(
    many: Server, client: httpx.Client, photographs: dict[str, bytes]
) -> None:
    assert replicas(many, "small") == []
    answer = post_form(client, photographs["coffee"], model="gpt-image-1", **FAST)
    assert (answer.status_code, answer.json()["model"]) == (200, "small")
    assert eventually(lambda: replicas(many, "small") == [], START_TIMEOUT_S)
    assert eventually(lambda: statuses(client)["small"] == "idle", START_TIMEOUT_S)
    assert len(replicas(many, "pocket")) == 1


def test_figures_are_by_model(many: Server, client: httpx.Client) -> None:
    def told() -> str:
        return httpx.get(many.told("metrics"), timeout=30).text

    wanted = [
        'ray_rayedit_requests_total{code="ok",model="pocket"',
        'ray_rayedit_requests_total{code="not_ready",model="damaged"',
        'ray_rayedit_queue_seconds{model="small"',
    ]

    def of_every_model() -> bool:
        lines = [re_ordered(line) for line in told().splitlines()]
        return all(any(line.startswith(each) for line in lines) for each in wanted)

    assert eventually(of_every_model), told()[-3000:]
    assert metrics_of(many)["rayedit_requests_total{ok}"] >= 1


def re_ordered(line: str) -> str:
    """A line of Prometheus' text with our labels first."""
    name, brace, rest = line.partition("{")
    labels = rest.partition("}")[0].split(",") if brace else []
    ours = sorted(label for label in labels if label.startswith(("code=", "model=")))
    return f"{name}{{{','.join(ours)}" if ours else name


@pytest.mark.chaos
def test_an_edit_that_no_replica_comes_for_in_time_says_so(
    config: dict[str, Any],
    photographs: dict[str, bytes],
    tmp_path: Path,
) -> None:
    """With a deadline that no replica can start within."""
    models = {"small": {**config["models"]["small"], "downscale_delay_s": 600}}
    short = {**config, "models": models, "deadline_s": 2}
    with (
        running_server(short, tmp_path) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        first = post_form(client, photographs["coffee"], **FAST)
        assert "small is starting" in check_error(first, 503, "not_ready", None)
        until = time.monotonic() + START_TIMEOUT_S
        while (answer := post_form(client, photographs["coffee"], **FAST)).status_code != 200:
            assert (
                int(answer.headers["retry-after"]) >= 1 and "x-should-retry" not in answer.headers
            )
            assert time.monotonic() < until, answer.text
        assert answer.json()["model"] == "small"
