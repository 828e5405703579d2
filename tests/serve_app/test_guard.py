"""The guard that runs in Serve's proxy, around an app that reads whatever it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from ray.serve._private.constants import SERVE_SESSION_ID
from ray.serve._private.http_util import parse_request_timeout_header
from starlette.types import Message, Receive, Scope, Send

from serve_app.proxy.guard import ProxyGuard, clean_headers

LIMIT = 100_000


class Reader:
    """An ASGI app that counts the body it gets, and answers 200."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self.disconnected = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnected = True
                break
            self.size_bytes += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})


async def post(app: ProxyGuard, size_bytes: int, chunked: bool, path: str = "/") -> httpx.Response:
    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, size_bytes, 1000):
            yield b"x" * min(1000, size_bytes - at)

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://proxy"
    ) as client:
        return await client.post(path, content=chunks() if chunked else b"x" * size_bytes)


@pytest.mark.parametrize("chunked", [False, True])
def test_the_app_behind_the_guard_never_sees_more_than_the_limit(chunked: bool) -> None:
    reader = Reader()
    response = asyncio.run(post(ProxyGuard(reader, LIMIT), LIMIT + 1, chunked))
    assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")
    assert len(response.headers["x-request-id"]) == 32
    assert reader.size_bytes <= LIMIT
    assert reader.disconnected == chunked  # an announced length never reaches the app


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_may_be_larger_and_take_its_time(chunked: bool) -> None:
    timeouts = []
    reader = Reader()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        timeouts.append(parse_request_timeout_header(dict(scope["headers"]), 70.0))
        await reader(scope, receive, send)

    guard = ProxyGuard(app, LIMIT, max_file_bytes=2 * LIMIT)
    for path, size_bytes in (("/v1/files", 2 * LIMIT), ("/rayedit/v1/files/file-1/content", 1)):
        assert asyncio.run(post(guard, size_bytes, chunked, path)).status_code == 200
    assert reader.size_bytes == 2 * LIMIT + 1 and timeouts == [None, None]
    assert asyncio.run(post(guard, 2 * LIMIT + 1, chunked, "/v1/files")).status_code == 413
    assert asyncio.run(post(guard, LIMIT + 1, chunked)).status_code == 413
    assert asyncio.run(post(guard, 1, chunked)).status_code == 200 and timeouts[-1] == 70.0


@pytest.mark.parametrize("chunked", [False, True])
def test_what_the_guard_refuses_is_counted(chunked: bool) -> None:
    refused: list[str] = []
    asyncio.run(post(ProxyGuard(Reader(), LIMIT, refused.append), LIMIT + 1, chunked))
    assert refused == ["body_too_large"]


@pytest.mark.parametrize("raises", [False, True])
def test_an_app_that_ends_without_an_answer_is_answered_for(raises: bool) -> None:
    """As Serve's proxy does when its ingress dies."""
    refused: list[str] = []

    async def dies(scope: Scope, receive: Receive, send: Send) -> None:
        if raises:
            raise RuntimeError("the ingress died")

    response = asyncio.run(post(ProxyGuard(dies, LIMIT, refused.append), 1, False))
    assert (response.status_code, response.json()["error"]["code"]) == (503, "worker_crashed")
    assert len(response.headers["x-request-id"]) == 32
    assert refused == ["worker_crashed"]


def test_nobody_is_answered_twice_and_nobody_who_left() -> None:
    sent: list[str] = []

    async def leave() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message["type"])

    async def fails_late(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("in the middle of the answer")

    async def hears(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    scope = {"type": "http", "headers": [], "path": "/"}
    asyncio.run(ProxyGuard(hears, LIMIT)(scope, leave, send))
    assert sent == []
    with pytest.raises(RuntimeError):
        asyncio.run(ProxyGuard(fails_late, LIMIT)(scope, leave, send))
    assert sent == ["http.response.start"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_within_the_limit_passes_whole(chunked: bool) -> None:
    reader = Reader()
    response = asyncio.run(post(ProxyGuard(reader, LIMIT), LIMIT, chunked))
    assert (response.status_code, reader.size_bytes) == (200, LIMIT)


@pytest.mark.parametrize(
    "name",
    [
        b"x-request-timeout-seconds",
        b"X-Request-Timeout-Seconds",
        b"x-request-disconnect-disabled",
        b"serve_multiplexed_model_id",
        b"serve-multiplexed-model-id",
        SERVE_SESSION_ID.encode(),
    ],
)
def test_headers_that_steer_serve_are_dropped(name: bytes) -> None:
    headers, request_id = clean_headers([(name, b"1"), (b"accept", b"*/*")])
    assert headers == [(b"accept", b"*/*"), (b"x-request-id", request_id)]


def test_one_request_id_is_left_of_many() -> None:
    ids = [(b"x-request-id", b"one"), (b"x-request-id", b"bad id"), (b"X-Request-Id", b"two")]
    headers, request_id = clean_headers(ids)
    assert headers == [(b"x-request-id", request_id)]
    assert request_id == b"two"
