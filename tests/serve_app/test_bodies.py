"""The largest body: announced or not, at the guard in the proxy and at the app behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import httpx
import pytest

from engine.images import MAX_BYTES
from engine.spec import ModelSpec
from serve_app.config import ServeConfig
from serve_app.ingress.api import make_app
from tests.serve_app.conftest import service_of

BODY_LIMIT = 200_000


def body_of(size_bytes: int) -> bytes:
    """A JSON body of this length, whose image is none."""
    image = {"image_url": "data:image/png;base64,AAAA"}
    return json.dumps({"prompt": "x", "images": [image]}).encode().ljust(size_bytes)


def chunks_of(data: bytes, size: int = 10_000) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused_with_413(http: httpx.Client, chunked: bool) -> None:
    statuses = []
    for size in (MAX_BYTES, MAX_BYTES + 1):
        body = body_of(size)
        response = http.post(
            "/v1/images/edits",
            content=chunks_of(body) if chunked else body,
            headers={"content-type": "application/json"},
        )
        statuses.append((response.status_code, response.json()["error"]["code"]))
        assert response.headers["x-request-id"]
    assert statuses == [(400, "image_unsupported"), (413, "body_too_large")]


@pytest.mark.parametrize("chunked", [False, True])
def test_the_app_bounds_the_body_without_the_guard_in_the_proxy(
    pocket: ModelSpec, chunked: bool
) -> None:
    """As under `serve run`, where nothing of ours runs in Serve's proxy."""

    async def post() -> httpx.Response:
        config = ServeConfig(max_body_bytes=BODY_LIMIT, decode_workers=1)
        service = service_of(config, pocket, None)  # type: ignore[arg-type]
        transport = httpx.ASGITransport(make_app(service))
        body = body_of(BODY_LIMIT + 1)

        async def chunks() -> Iterator[bytes]:  # type: ignore[misc]
            for chunk in chunks_of(body):
                yield chunk

        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            response = await client.post(
                "/v1/images/edits",
                content=chunks() if chunked else body,  # type: ignore[arg-type]
                headers={"content-type": "application/json"},
            )
        service.close()
        return response

    response = asyncio.run(post())
    assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")


def test_an_endless_body_is_cut_off_early(http: httpx.Client) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 300 * 2**20:
            sent += 2**16
            yield b" " * 2**16

    try:
        response = http.post(
            "/v1/images/edits", content=endless(), headers={"content-type": "application/json"}
        )
        assert response.status_code == 413
    except httpx.WriteError:
        pass  # the server closed the connection while the client was still sending
    assert sent < 50 * 2**20
