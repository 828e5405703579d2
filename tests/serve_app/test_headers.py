"""A head of a request that never ends is cut off, by the server that Serve itself starts."""

from __future__ import annotations

import asyncio
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from uvicorn.server import ServerState

from serve_app.proxy.headers import MAX_HEAD_BYTES, BoundedHttpProtocol
from tests.serve_app.conftest import post_form
from tests.serving import Server

CHUNKED = (
    b"POST /v1/images/edits HTTP/1.1\r\nhost: server\r\ncontent-type: application/json\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
ENDLESS = {
    "one header": (b"GET /healthz HTTP/1.1\r\nhost: server\r\nx-long: ", b"a"),
    "many headers": (b"GET /healthz HTTP/1.1\r\nhost: server\r\n", b"x-one: a\r\n"),
    "a path": (b"GET /", b"a"),
    "a chunk's extension": (CHUNKED + b"1;", b"a"),
    "headers behind a body": (CHUNKED + b"0\r\n", b"x-one: a\r\n"),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_head_without_end_is_cut_off_and_the_next_request_is_answered(
    server: Server, http: httpx.Client, kind: str
) -> None:
    start, part = ENDLESS[kind]
    address = urlsplit(server.url)
    sent = 0
    with socket.create_connection((address.hostname or "", address.port or 0), 5) as client:
        client.sendall(start)
        try:
            while sent < 16 * 2**20:
                sent += client.send(part * (2**14 // len(part)))
            pytest.fail("nothing was cut off")
        except OSError as error:
            assert not isinstance(error, TimeoutError)
    assert http.get("/healthz").status_code == 200


def test_a_long_head_is_told_why(server: Server) -> None:
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname or "", address.port or 0), 5) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nx-long: " + b"a" * MAX_HEAD_BYTES)
        assert client.recv(2**16).startswith(b"HTTP/1.1 431 ")


WHOLE = {
    "a header": b"GET /healthz HTTP/1.1\r\nhost: server\r\nx-long: " + b"a" * 100_000,
    "many headers": b"GET /healthz HTTP/1.1\r\nhost: server" + b"\r\nx-one: a" * 10_000,
    "a path": b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: server",
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_head_that_comes_whole_is_bounded_as_well(kind: str) -> None:
    """In this process, as one read of the socket: how a network cuts it is not ours to say."""
    written: list[bytes] = []

    class Transport(asyncio.Transport):
        def write(self, data: Any) -> None:
            written.append(bytes(data))

        def is_closing(self) -> bool:
            return self.closed

        def close(self) -> None:
            self.closed = True

        closed = False

    async def receive() -> list[bytes]:
        config = uvicorn.Config(lambda *_: None)
        config.load()
        protocol = BoundedHttpProtocol(config, ServerState(), {})
        protocol.connection_made(Transport())
        protocol.data_received(WHOLE[kind] + b"\r\n\r\n")
        return written

    (answer,) = asyncio.run(receive())
    assert answer.startswith(b"HTTP/1.1 431 ")


def test_headers_within_the_bound_and_bodies_of_any_length_pass(
    http: httpx.Client, photographs: dict[str, bytes]
) -> None:
    assert (
        http.get("/healthz", headers={"x-long": "a" * (MAX_HEAD_BYTES - 1000)}).status_code == 200
    )
    data = photographs["coffee"] + b"\0" * 20 * MAX_HEAD_BYTES
    for _ in range(2):  # over one connection
        assert post_form(http, data, num_inference_steps=4).status_code == 200
