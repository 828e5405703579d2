"""What an operator sees: figures at `/metrics`, a line of JSON for each edit."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from serve_app.ingress.metrics import STAGES
from serve_app.replica.watch import MIN_STALL_S, Watch
from tests.serve_app.conftest import post_form
from tests.serve_app.dashboard import asked_series, chosen_model
from tests.serving import INGRESS, REPLICA, Server, eventually

SECRET = "paint it the colour of xyzzy"
FAST = {"num_inference_steps": 4, "guidance_scale": 0, "image_guidance_scale": 1}


def metrics_of(server: Server) -> dict[str, float]:
    """name{tags} -> value, ours alone, without the tags that Ray adds."""
    url = server.told("metrics")
    found: dict[str, float] = {}
    for line in httpx.get(url, timeout=30).text.splitlines():
        match = re.match(r"ray_(rayedit_\w+)(?:\{(.*)\})? (\S+)", line)
        if match:
            code = re.findall(r'code="(\w+)"', match[2] or "")
            name = f"{match[1]}{{{code[0]}}}" if code else match[1]
            found[name] = found.get(name, 0.0) + float(match[3])
    return found


@pytest.fixture(scope="module")
def edited(http: httpx.Client, server: Server, photographs: dict[str, bytes]) -> dict[str, float]:
    """The figures before three edits, of which one is refused and one is of two images."""
    before = metrics_of(server)
    headers = {"x-request-id": "operations-1"}
    form = {"prompt": SECRET, **{name: str(value) for name, value in FAST.items()}}
    files = {"image": ("holiday-in-rome.jpg", photographs["coffee"])}
    answer = http.post("/v1/images/edits", data=form, files=files, headers=headers)
    assert answer.status_code == 200
    assert post_form(http, photographs["coffee"], prompt=SECRET, n=2, **FAST).status_code == 200
    assert post_form(http, b"no picture", prompt=SECRET).status_code == 400
    return before


def test_edits_are_counted_by_how_they_ended(server: Server, edited: dict[str, float]) -> None:
    def grew(name: str, by: float) -> bool:
        return metrics_of(server).get(name, 0.0) - edited.get(name, 0.0) >= by

    assert eventually(lambda: grew("rayedit_requests_total{ok}", 2))
    assert eventually(lambda: grew("rayedit_requests_total{image_unsupported}", 1))
    assert eventually(lambda: grew("rayedit_images_total", 3))
    assert eventually(lambda: grew("rayedit_branches_total", 12))
    assert eventually(lambda: grew("rayedit_branches_saved_total", 24))  # one row of three a step


@pytest.mark.slow
def test_gauges_stay_while_nothing_happens(server: Server, edited: dict[str, float]) -> None:
    """Ray forgets one after two reports without it, which these servers make every second."""
    gauges = {"rayedit_in_flight", "rayedit_queue_seconds"}
    assert eventually(lambda: gauges <= metrics_of(server).keys())
    for _ in range(8):
        time.sleep(1)
        found = metrics_of(server)
        assert {name: found.get(name) for name in gauges} == dict.fromkeys(gauges, 0.0)


def test_metrics_are_told_at_the_address_of_the_server_and_are_ours_alone(
    server: Server, edited: dict[str, float]
) -> None:
    assert server.told("metrics") == f"{server.url}/metrics"
    answer = httpx.get(server.told("metrics"))
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    names = {
        line.split("{")[0].split(" ")[0] for line in answer.text.splitlines() if line[0] != "#"
    }
    assert names and all(name.startswith("ray_rayedit_") for name in names)


def test_other_machines_reach_no_port_of_it_but_the_one_that_serve_opens_for_a_replica(
    server: Server,
) -> None:
    """That one is `[::]:0` in Serve's source; Ray's token guards it."""
    reached: list[str] = []
    local = 0
    for pid, command in server.processes().items():
        with suppress(psutil.NoSuchProcess):
            for connection in psutil.Process(pid).net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    ip = connection.laddr.ip.removeprefix("::ffff:")  # IPv4, as IPv6 writes it
                    local += ip in ("127.0.0.1", "::1")
                    reached += [] if ip in ("127.0.0.1", "::1") else [command.strip()]
    assert sorted(reached) == [INGRESS, REPLICA] and local > 5


def test_the_dashboard_asks_for_what_is_told(server: Server, edited: dict[str, float]) -> None:
    asked = asked_series() - {"ray_rayedit_branches_padded_total"}  # told once there was a bucket

    def told() -> list[str]:
        return httpx.get(server.told("metrics")).text.splitlines()

    def are_told() -> bool:
        return asked <= {re.split(r"[{ ]", line)[0] for line in told()}

    assert eventually(are_told), asked
    series, label = chosen_model()
    (queue,) = [line for line in told() if line.startswith(series)]
    assert f'{label}="pocket"' in queue
    of_models = [line for line in told() if not line.startswith(("#", "ray_rayedit_in_flight"))]
    assert of_models and all(f'{label}="' in line for line in of_models)


def test_every_stage_of_an_edit_is_timed(server: Server, edited: dict[str, float]) -> None:
    names = [f"rayedit_{stage}_seconds_count" for stage in STAGES]
    names += [
        "rayedit_step_seconds_count",
        "rayedit_batch_fill_count",
        "rayedit_busy_seconds_total",
    ]
    assert eventually(lambda: all(metrics_of(server).get(name, 0) > 0 for name in names)), [
        name for name in names if not metrics_of(server).get(name)
    ]


def test_an_edit_is_one_line_of_json_with_its_id_its_code_and_its_times(
    server: Server, edited: dict[str, float]
) -> None:
    assert eventually(
        lambda: any(line.get("request_id") == "operations-1" for line in server.log_lines())
    )
    (line,) = [
        line
        for line in server.log_lines()
        if line.get("request_id") == "operations-1" and "code" in line
    ]
    assert (line["code"], line["status"], line["steps"], line["num_images"]) == ("ok", 200, 4, 1)
    assert 0 < line["model_s"] <= line["total_s"] < 60
    assert line["decode_s"] > 0 and line["encode_s"] > 0 and line["batch_size"] >= 1


def test_no_log_holds_what_a_user_wrote_or_sent(server: Server, edited: dict[str, float]) -> None:
    folder = Path(server.told("logs")).parent
    for file in [server.log_file, *folder.rglob("*")]:
        if file.is_file():
            text = file.read_bytes()
            assert b"xyzzy" not in text and b"holiday-in-rome" not in text, file


def test_a_replica_that_makes_no_step_though_it_has_work_is_stalled() -> None:
    now = 0.0
    watch = Watch(60, clock=lambda: now)
    assert not watch.is_stalled(in_flight=0, steps=0)
    now = 1000
    assert not watch.is_stalled(in_flight=0, steps=0)  # idle for long is not stalled
    assert not watch.is_stalled(in_flight=1, steps=0)
    now = 1059
    assert not watch.is_stalled(in_flight=1, steps=0)
    now = 1061
    assert watch.is_stalled(in_flight=1, steps=0)
    assert not watch.is_stalled(in_flight=1, steps=1)
    assert MIN_STALL_S > 10
