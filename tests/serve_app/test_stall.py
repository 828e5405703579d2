"""A device that hangs: nothing that it holds outlives its deadline, and its replica is replaced."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from serve_app.replica.watch import MIN_STALL_S
from tests.serve_app.conftest import post_form
from tests.serve_app.editors import PACED
from tests.serving import REPLICA, SMALL, running_server

DEADLINE_S = 5.0


@pytest.mark.chaos
def test_a_replica_whose_device_hangs_is_replaced(
    tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    config = {"engine": SMALL, "deadline_s": DEADLINE_S, "decode_workers": 1}
    with (
        running_server(config, tmp_path, editor=PACED) as server,
        httpx.Client(base_url=server.url, timeout=60) as http,
    ):
        before = server.pids(REPLICA)
        start = time.monotonic()
        response = post_form(http, photographs["coffee"], prompt="hang in encode")
        assert response.status_code == 504
        assert time.monotonic() - start < DEADLINE_S + 2
        while time.monotonic() - start < MIN_STALL_S + 120 and server.pids(REPLICA) == before:
            time.sleep(1)
        assert set(server.pids(REPLICA)).isdisjoint(before)
        statuses = []
        while time.monotonic() - start < MIN_STALL_S + 240 and 200 not in statuses:
            response = post_form(http, photographs["coffee"], num_inference_steps=2)
            statuses.append(response.status_code)
        assert statuses[-1] == 200
        assert set(statuses) <= {200, 503, 504}


@pytest.mark.chaos
def test_a_compiled_model_serves_from_its_first_edit(
    tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    """It compiles before it is ready: a deadline is too short for that."""
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}
    config = {"engine": {**SMALL, "compile": True}, "deadline_s": DEADLINE_S, "decode_workers": 1}
    with (
        running_server(config, tmp_path, **cache) as server,
        httpx.Client(base_url=server.url, timeout=60) as http,
    ):
        response = post_form(http, photographs["coffee"], size="64x64", num_inference_steps=2)
        assert response.status_code == 200
