"""Batches of a real server: the page's own example, and a restart in the middle."""

from __future__ import annotations

import base64
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from cluster.processes import KILL_WAIT_S, of_session
from serve_app.batches.processes import MODULE
from tests.serve_app.batch_lines import edit_lines, make_batch, outputs, wait_until_over
from tests.serve_app.conftest import data_url, files_of, post_json
from tests.serving import ROOT, SMALL, Server, eventually, running_server
from tests.shell import blocks

pytestmark = pytest.mark.slow  # servers of its own, and jobs with a Ray each

ADDRESS = "http://127.0.0.1:8000"
ROWS = 60


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    return {"engine": SMALL, "decode_workers": 1, "files_uri": str(tmp_path / "files")}


def home(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    return folder


def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_the_example_of_the_page_runs_and_its_images_are_those_of_the_online_door(
    server: Server,
    http: httpx.Client,
    tmp_path: Path,
    photographs: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").write_bytes(photographs["coffee"])
    code = blocks(ROOT / "docs" / "serving.md")[0].code
    names: dict[str, Any] = {}
    exec(compile(code.replace(ADDRESS, server.url), "serving.md", "exec"), names)
    assert names["batch"].status == "completed", server.log[-3000:]
    assert len(names["answers"]) == 4
    photo = [{"file_id": names["photo"].id}]
    for line in names["answers"]:
        seed = int(line["custom_id"].rpartition("-")[2])
        body = {"images": photo, "prompt": "make it night", "seed": seed}
        (online,) = files_of(http.post("/v1/images/edits", json=body))
        made = line["response"]["body"]["data"][0]
        assert base64.b64decode(made["b64_json"]) == online and made["seed"] == seed


def jobs(server: Server) -> list[int]:
    """The processes of its batches; each began a session."""
    return [pid for pid, line in server.processes().items() if f"-m {MODULE}" in line]


@pytest.mark.chaos  # minutes: two servers, three jobs
def test_a_batch_goes_on_when_its_job_is_killed_and_its_server_stopped_and_leaves_no_process(
    tmp_path: Path, config: dict[str, Any], photographs: dict[str, bytes]
) -> None:
    lines = edit_lines(photographs["coffee"], ROWS, num_inference_steps=8)
    with running_server(config, home(tmp_path, "first")) as server, client(server) as sdk:
        made = make_batch(sdk, lines)

        def are_done(rows: int) -> bool:
            counts = sdk.batches.retrieve(made.id).request_counts
            return counts is not None and counts.completed >= rows

        assert eventually(lambda: are_done(1), 120), server.log[-3000:]
        (job,) = jobs(server)
        assert len(of_session(job)) > 5  # a Ray of its own
        os.kill(job, signal.SIGKILL)
        assert eventually(lambda: of_session(job) == [], 2 * KILL_WAIT_S)
        assert eventually(lambda: len(jobs(server)) == 1, 120)
        assert eventually(lambda: are_done(ROWS // 2), 120), server.log[-3000:]
        assert server.stop() == 0
        assert server.processes() == {}
    with running_server(config, home(tmp_path, "second")) as server, client(server) as sdk:
        done = wait_until_over(sdk, made.id)
        assert done.status == "completed", server.log[-3000:]
        answers = outputs(sdk, done.output_file_id)
        assert len(answers) == ROWS and done.error_file_id is None
        with httpx.Client(base_url=server.url, timeout=60) as http:
            url, fields = data_url(photographs["coffee"]), {"seed": 7, "num_inference_steps": 8}
            (online,) = files_of(post_json(http, url, **fields))
        assert {line["response"]["body"]["data"][0]["b64_json"] for line in answers.values()} == {
            base64.b64encode(online).decode()
        }
