"""Clients that send slowly or nothing: they keep no place from others."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import pytest

from serve_app.ingress.parsing import IDLE_S, MIN_BYTES_PER_S
from tests.serve_app.conftest import post_form
from tests.serving import SMALL, Server, running_server

HEAD = (
    b"POST /v1/images/edits HTTP/1.1\r\nhost: server\r\ncontent-type: application/json\r\n"
    b"content-length: 1000000\r\n\r\n"
)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with four places."""
    config = {"engine": SMALL, "max_in_flight": 4, "decode_workers": 1}
    with running_server(config, tmp_path_factory.mktemp("narrow")) as running:
        yield running


def connected(server: Server) -> socket.socket:
    address = urlsplit(server.url)
    return socket.create_connection((address.hostname or "", address.port or 0), timeout=30)


def answer_of(client: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    return b"".join(iter(lambda: client.recv(2**16), b""))


def test_uploads_that_send_nothing_lose_their_places_to_an_edit(
    narrow: Server, photographs: dict[str, bytes]
) -> None:
    with ExitStack() as stack, httpx.Client(base_url=narrow.url, timeout=60) as http:
        idle = [stack.enter_context(connected(narrow)) for _ in range(4)]
        for client in idle:
            client.sendall(HEAD)
        time.sleep(1)
        assert post_form(http, photographs["coffee"]).status_code == 503
        start = time.monotonic()
        answers = [answer_of(client) for client in idle]
        assert time.monotonic() - start < IDLE_S + 5
        for answer in answers:
            assert answer.startswith(b"HTTP/1.1 408 ") and b'"code":"body_too_slow"' in answer
            assert b"the body came too slowly: 0 bytes in 10 s" in answer
        assert post_form(http, photographs["coffee"], num_inference_steps=4).status_code == 200


def test_a_body_that_trickles_is_given_up_and_a_slow_one_is_read(narrow: Server) -> None:
    def send(chunk: bytes, times: int) -> tuple[bytes, float]:
        with connected(narrow) as client:
            client.sendall(HEAD.replace(b"1000000", str(len(chunk) * times).encode()))
            start = time.monotonic()
            for _ in range(times):
                client.sendall(chunk)
                if select.select([client], [], [], 0.5)[0]:
                    break
            return client.recv(2**16), time.monotonic() - start

    trickled, took_s = send(b" ", 30)
    assert trickled.startswith(b"HTTP/1.1 408 ") and took_s > IDLE_S
    slow, took_s = send(b" " * int(MIN_BYTES_PER_S * 0.6), 24)  # 1.2 times the rate, for 12 s
    assert slow.startswith(b"HTTP/1.1 400 ") and took_s > IDLE_S
