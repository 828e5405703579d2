"""The long proof: a batch whose server is killed at random moments, cancelled, and made again."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.batch_jobs.shapes import batch_line, data_url
from tests.conftest import jpeg, photograph
from tests.serve_app.batch_lines import outputs, upload, wait_until_over
from tests.serve_app.conftest import files_of
from tests.serving import SMALL, Server, eventually, free_port, running_module, wait_until_ready

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

LINES, BAD = 300, 15
END_S = (
    90.0  # the block in hand; a worker that Ray is starting looks a minute for a Ray that is gone
)
SEED = 20_261_129


def good_line(number: int, url: str) -> dict[str, Any]:
    texts = ("make it night", "add fog", "make it blue")
    body = {"prompt": texts[number % 3], "seed": number, "num_inference_steps": 4}
    return batch_line(f"edit-{number}", url, **body)


def bad_line(number: int, url: str) -> dict[str, Any]:
    """One of three kinds."""
    wrong: list[dict[str, Any]] = [
        {"prompt": " "},
        {"images": [{"image_url": "data:image/png;base64,AAAA"}]},
        {"num_inference_steps": 0},
    ]
    return batch_line(f"edit-{number}", url, **wrong[number % 3])


@contextmanager
def serving(config: dict[str, Any], folder: Path) -> Iterator[tuple[Server, openai.OpenAI]]:
    """A server that loads its model with the first edit: a batch needs none of its replicas."""
    folder.mkdir()
    port = free_port()
    module = ("tests.serving", json.dumps(config), str(port), "")
    with running_module(module, port, folder, ready="/healthz") as server:
        url = f"{server.url}/v1"
        with openai.OpenAI(base_url=url, api_key="none", timeout=60) as sdk:
            yield server, sdk


def kill(server: Server, *, jobs: bool) -> None:
    """SIGKILL the server, and with `jobs` everything that it has started, as a machine's end;
    without, its job stops by itself. Nothing stays."""
    others = server.processes() if jobs else {}
    server.process.kill()
    server.process.wait()
    for pid in others:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: server.processes() == {}, END_S), server.processes()


def wait_for_rows(sdk: openai.OpenAI, id: str, rows: int) -> None:
    def are_done() -> bool:
        batch = sdk.batches.retrieve(id)
        counts = batch.request_counts
        return counts is not None and counts.completed + counts.failed >= rows

    assert eventually(are_done, 200), sdk.batches.retrieve(id)


def test_each_line_is_answered_once_whatever_happens_to_the_server(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    url = data_url(jpeg(photograph("coffee")[100:164, 200:264]))
    bad = set(dice.sample(range(LINES), BAD))
    lines = [(bad_line if k in bad else good_line)(k, url) for k in range(LINES)]
    config = {
        "engine": SMALL,
        "decode_workers": 1,
        "min_replicas": 0,
        "files_uri": str(tmp_path / "files"),
    }
    order = {"endpoint": "/v1/images/edits", "completion_window": "24h"}
    with serving(config, tmp_path / "1") as (server, sdk):
        asked = upload(sdk, lines)
        first = sdk.batches.create(input_file_id=asked, **order).id  # type: ignore[arg-type]
        wait_for_rows(sdk, first, dice.randint(1, 80))
        kill(server, jobs=False)
    with serving(config, tmp_path / "2") as (server, sdk):
        sdk.batches.cancel(first)
        cancelled = wait_until_over(sdk, first)
        assert cancelled.status == "cancelled"
        answers, errors = (
            outputs(sdk, id) for id in (cancelled.output_file_id, cancelled.error_file_id)
        )
        assert not answers.keys() & errors.keys()
        assert answers.keys() | errors.keys() == {line["custom_id"] for line in lines}
        again = sdk.batches.create(input_file_id=asked, **order).id  # type: ignore[arg-type]
        wait_for_rows(sdk, again, dice.randint(1, 100))
        kill(server, jobs=True)
    with serving(config, tmp_path / "3") as (server, sdk):
        wait_for_rows(sdk, again, dice.randint(120, 200))
        kill(server, jobs=False)
    with serving(config, tmp_path / "4") as (server, sdk):
        done = wait_until_over(sdk, again)
        assert done.status == "completed" and done.request_counts is not None, server.log[-3000:]
        assert done.request_counts.model_dump() == {
            "total": LINES,
            "completed": LINES - BAD,
            "failed": BAD,
        }
        whole, errors = (outputs(sdk, id) for id in (done.output_file_id, done.error_file_id))
        assert set(errors) == {f"edit-{number}" for number in bad}
        assert whole.keys() | errors.keys() == {line["custom_id"] for line in lines}
        check_online(server, lines, whole)
        for id, line in answers.items():
            assert image_of(line) == image_of(whole[id])


def check_online(server: Server, lines: list[dict[str, Any]], made: dict[str, Any]) -> None:
    """Every image is, byte for byte, the one that the same body has online."""
    wait_until_ready(server)
    with httpx.Client(base_url=server.url, timeout=60) as http, ThreadPoolExecutor(4) as pool:
        good = [line for line in lines if line["custom_id"] in made]

        def online(line: dict[str, Any]) -> bytes:
            (file,) = files_of(http.post("/v1/images/edits", json=line["body"]))
            return file

        for line, file in zip(good, pool.map(online, good), strict=True):
            assert image_of(made[line["custom_id"]]) == file, line["custom_id"]


def image_of(line: dict[str, Any]) -> bytes:
    return base64.b64decode(line["response"]["body"]["data"][0]["b64_json"])
