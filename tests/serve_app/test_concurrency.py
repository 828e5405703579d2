"""Requests that arrive together change nothing for one another."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.serve_app.conftest import files_of, post_form

MIXED = [
    {"photo": "coffee", "prompt": "make it night", "num_inference_steps": 4},
    {"photo": "astronaut", "prompt": "make it snow", "num_inference_steps": 6, "size": "64x64"},
    {"photo": "chelsea", "prompt": "a red cat", "num_inference_steps": 4, "guidance_scale": 1},
    {"photo": "rocket", "prompt": "at sunset", "num_inference_steps": 6, "size": "48x64"},
    {"photo": "coffee", "prompt": "as a sketch", "num_inference_steps": 4, "guidance_scale": 0},
    {"photo": "astronaut", "prompt": "in autumn", "num_inference_steps": 6, "size": "48x64"},
    {"photo": "chelsea", "prompt": "fog", "num_inference_steps": 4, "image_guidance_scale": 1},
    {"photo": "rocket", "prompt": "black and white", "num_inference_steps": 6, "size": "64x48"},
]


def send(http: httpx.Client, data: bytes, options: dict[str, object]) -> httpx.Response:
    fields = {name: value for name, value in options.items() if name != "photo"}
    return post_form(http, data, seed=7, **fields)


def send_together(
    http: httpx.Client, datas: Sequence[bytes], options: Sequence[dict[str, object]]
) -> list[httpx.Response]:
    with ThreadPoolExecutor(len(datas)) as threads:
        return list(threads.map(send, [http] * len(datas), datas, options))


def test_eight_mixed_requests_together_give_the_bytes_of_one_by_one(
    http: httpx.Client, photographs: dict[str, bytes]
) -> None:
    datas = [photographs[str(options["photo"])] for options in MIXED]
    together = [files_of(response) for response in send_together(http, datas, MIXED)]
    alone = [
        files_of(send(http, data, options)) for data, options in zip(datas, MIXED, strict=True)
    ]
    assert together == alone
    assert len({file for (file,) in together}) == len(MIXED)


def test_a_bad_item_among_four_fails_alone(
    http: httpx.Client, photographs: dict[str, bytes]
) -> None:
    """The token limit is checked in the replica, so this one is refused inside the batch."""
    options = [dict(MIXED[0], prompt=f"make it night {k}") for k in range(4)]
    expected = [files_of(send(http, photographs["coffee"], option)) for option in options]
    options[2]["prompt"] = "a vase and " * 150
    responses = send_together(http, [photographs["coffee"]] * 4, options)
    assert [response.status_code for response in responses] == [200, 200, 400, 200]
    assert responses[2].json()["error"]["code"] == "instruction_too_long"
    for k in (0, 1, 3):
        assert files_of(responses[k]) == expected[k]


def test_a_server_that_is_full_of_work_stays_ready(
    http: httpx.Client, photographs: dict[str, bytes]
) -> None:
    """More edits than a replica takes at a time; a health check must not have it restarted."""
    option: dict[str, object] = {"num_inference_steps": 10}
    with ThreadPoolExecutor(40) as threads:
        edits = [threads.submit(send, http, photographs["coffee"], option) for _ in range(40)]
        statuses = []
        while not all(edit.done() for edit in edits):
            statuses.append(http.get("/readyz").status_code)
            time.sleep(0.1)
    assert set(statuses) == {200}
    responses = [edit.result() for edit in edits]
    made = [response for response in responses if response.status_code == 200]
    assert len({response.json()["data"][0]["b64_json"] for response in made}) == 1
    for response in responses:  # a slow machine refuses what would wait too long
        assert response.status_code == 200 or int(response.headers["retry-after"]) > 0
