"""`Idempotency-Key`: an edit that is sent again has the same answer, computed once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from starlette.types import ASGIApp

from engine.edit import EditOutcome, EditRequest
from engine.errors import NotReady
from engine.spec import ModelSpec
from serve_app.backend import Preview
from serve_app.config import ServeConfig
from serve_app.ingress.api import make_app
from serve_app.ingress.keys import ApiKeys
from tests.serve_app.conftest import PROMPT, files_of, service_of
from tests.serve_app.editors import PACED
from tests.serve_app.local import Negative, over_http
from tests.serve_app.test_refusals import check_error
from tests.serving import INGRESS, SMALL, eventually, running_server

FIRST, SECOND = "secret of the first", "secret of the second"


class Counting(Negative):
    """Counts its edits; it fails those that it is told to, and holds all while it is closed."""

    def __init__(self) -> None:
        self.edits = self.failures = 0
        self.is_closed = False

    async def edit(self, request: EditRequest) -> EditOutcome:
        self.edits += 1
        while self.is_closed:
            await asyncio.sleep(0.01)
        if self.failures:
            self.failures -= 1
            raise NotReady("no model replica is available; try again later")
        return await super().edit(request)

    async def edit_stream(
        self, request: EditRequest
    ) -> AsyncGenerator[Preview | EditOutcome, None]:
        yield Preview(0, request.pixels)
        yield await self.edit(request)


@dataclass
class Asked:
    """The app over HTTP, and one photograph."""

    app: ASGIApp
    backend: Counting
    photo: bytes
    http: httpx.Client
    logged: list[bool]  # of each edit whether it was replayed

    def post(self, key: str | None, secret: str = FIRST, **fields: object) -> httpx.Response:
        """Send an edit, in a form with a boundary that is new each time."""
        return self.http.post(**self.edit(key, secret, **fields))

    def edit(self, key: str | None, secret: str = FIRST, **fields: object) -> dict[str, Any]:
        """Return the arguments of a POST."""
        headers = {"authorization": f"Bearer {secret}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        form = {name: str(value) for name, value in {"prompt": PROMPT, **fields}.items()}
        files = {"image": ("a.jpg", self.photo)}
        return {"url": "/v1/images/edits", "data": form, "files": files, "headers": headers}


@pytest.fixture
def asked(pocket: ModelSpec, photographs: dict[str, bytes]) -> Iterator[Asked]:
    keys = ApiKeys(
        {hashlib.sha256(secret.encode()).hexdigest(): secret[-6:] for secret in (FIRST, SECOND)}
    )
    logged: list[bool] = []
    backend = Counting()
    service = service_of(
        ServeConfig(decode_workers=1),
        pocket,
        backend,
        keys,
        lambda record, *_: logged.append(record.replayed) if record.has_ended else None,
    )
    app = make_app(service)
    with over_http(app) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield Asked(app, backend, photographs["coffee"], client, logged)
    service.close()


def test_the_same_key_and_edit_have_the_same_answer_computed_once(asked: Asked) -> None:
    first, again = asked.post("order 1"), asked.post("order 1")
    assert (first.status_code, again.status_code, asked.backend.edits) == (200, 200, 1)
    assert again.content == first.content and files_of(again)
    assert (first.headers.get("idempotent-replayed"), asked.logged) == (None, [False, True])
    assert again.headers["idempotent-replayed"] == "true"
    others = [asked.post(key) for key in ("order 2", None, None, "")]
    assert asked.backend.edits == 5
    seeds = {answer.json()["data"][0]["seed"] for answer in (first, *others)}
    assert len(seeds) == 5  # each draws its own


def test_the_official_client_repeats_an_edit_under_its_key(asked: Asked) -> None:
    with openai.OpenAI(base_url=f"{asked.http.base_url}/v1", api_key=FIRST) as sdk:
        once, again = (
            sdk.images.edit(
                image=("a.jpg", asked.photo),
                prompt=PROMPT,
                extra_headers={"Idempotency-Key": "of the client"},
            )
            for _ in range(2)
        )
    assert once == again and asked.backend.edits == 1


@pytest.mark.parametrize("change", [{"prompt": "make it snow"}, {"seed": 1}, {"stream": True}])
def test_another_edit_under_the_same_key_is_refused(
    asked: Asked, change: dict[str, object]
) -> None:
    assert asked.post("order 1").status_code == 200
    check_error(asked.post("order 1", **change), 400, "idempotency_key_reused", "Idempotency-Key")
    asked.photo += b"\0"
    check_error(asked.post("order 1"), 400, "idempotency_key_reused", "Idempotency-Key")
    assert asked.backend.edits == 1


def test_a_key_is_its_api_keys_own(asked: Asked) -> None:
    mine, theirs = asked.post("order 1"), asked.post("order 1", SECOND, prompt="make it snow")
    assert (mine.status_code, theirs.status_code, asked.backend.edits) == (200, 200, 2)


def test_of_two_at_once_the_second_waits_for_the_first(asked: Asked) -> None:
    asked.backend.is_closed = True
    with ThreadPoolExecutor(3) as threads:
        sent = [threads.submit(asked.post, "order 1") for _ in range(3)]
        assert eventually(lambda: asked.backend.edits == 1)
        check_error(asked.post("order 1", seed=1), 400, "idempotency_key_reused", "Idempotency-Key")
        asked.backend.is_closed = False
        answers = {edit.result().content for edit in sent}
    assert len(answers) == 1 and asked.backend.edits == 1
    assert sorted(asked.logged) == [False, False, True, True]  # the refused one among them


def test_an_error_that_may_be_retried_is_not_kept(asked: Asked) -> None:
    asked.backend.failures = 1
    assert [asked.post("order 1").status_code for _ in range(3)] == [503, 200, 200]
    assert asked.backend.edits == 2


def test_where_the_first_fails_who_waited_is_computed_for(asked: Asked) -> None:
    asked.backend.failures, asked.backend.is_closed = 1, True
    with ThreadPoolExecutor(2) as threads:
        sent = [threads.submit(asked.post, "order 1") for _ in range(2)]
        assert eventually(lambda: asked.backend.edits == 1)
        asked.backend.is_closed = False
        assert sorted(edit.result().status_code for edit in sent) == [200, 503]
    assert asked.backend.edits == 2


def test_what_a_client_left_may_be_asked_for_again(asked: Asked) -> None:
    async def leave() -> None:
        transport = httpx.ASGITransport(asked.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            edit = asyncio.create_task(client.post(**asked.edit("order 1")))
            while not asked.backend.edits:
                await asyncio.sleep(0.01)
            edit.cancel()
            await asyncio.wait({edit})

    asked.backend.is_closed = True
    asyncio.run(leave())
    asked.backend.is_closed = False
    assert asked.post("order 1").status_code == 200 and asked.backend.edits == 2


def test_a_stream_is_repeated_event_by_event(asked: Asked) -> None:
    def events(answer: httpx.Response) -> list[str]:
        assert answer.headers["content-type"].startswith("text/event-stream")
        return [line for line in answer.text.splitlines() if line and line[0] != ":"]

    first, again = (asked.post("a", stream=True, partial_images=1) for _ in range(2))
    assert events(first) == events(again) and asked.backend.edits == 1
    assert [line for line in events(again) if line.startswith("event: ")] == [
        "event: image_edit.partial_image",
        "event: image_edit.completed",
    ]
    assert again.headers["idempotent-replayed"] == "true"
    asked.backend.failures = 1
    assert "event: error" in asked.post("b", stream=True).text
    assert "event: image_edit.completed" in asked.post("b", stream=True).text


def test_a_key_that_is_too_long_is_refused(asked: Asked) -> None:
    check_error(asked.post("x" * 256), 400, "option_invalid", "Idempotency-Key")
    assert asked.post("x" * 255).status_code == 200


@pytest.mark.slow
def test_several_ingresses_compute_an_answer_once(
    tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    config = {"engine": SMALL, "decode_workers": 1, "ingress_replicas": 2}
    with running_server(config, tmp_path, editor=PACED) as running:

        def post(number: int) -> httpx.Response:
            return httpx.post(  # a connection of its own, to either ingress
                f"{running.url}/v1/images/edits",
                data={"prompt": PROMPT, "num_inference_steps": "20"},
                files={"image": ("a.jpg", photographs["coffee"])},
                headers={"Idempotency-Key": "order 1", "x-request-id": f"shared-{number}"},
                timeout=60,
            )

        with ThreadPoolExecutor(12) as threads:
            answers = list(threads.map(post, range(12)))
        assert [answer.status_code for answer in answers] == 12 * [200]
        assert len({answer.content for answer in answers}) == 1
        assert len(running.pids(INGRESS)) == 2
        assert eventually(lambda: len(_edits(running.log_lines())) == 12)
        edits = _edits(running.log_lines())
        assert sorted(edit["replayed"] for edit in edits) == [False] + 11 * [True]
        assert len({edit["replica"] for edit in edits}) == 2, "one ingress had all of them"


def _edits(lines: list[dict[str, object]]) -> list[dict[str, object]]:
    return [
        line
        for line in lines
        if "code" in line and str(line.get("request_id", "")).startswith("shared-")
    ]
