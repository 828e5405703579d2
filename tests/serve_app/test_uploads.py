"""Clients that send slowly or nothing: they keep no place from others."""

from __future__ import annotations

import select
import socket
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import pytest

from serve_app.config import ServeConfig
from serve_app.ingress.parsing import IDLE_S, MIN_BYTES_PER_S
from tests.serve_app.conftest import post_form
from tests.serve_app.test_operations import metrics_of
from tests.serving import Server, eventually

HEAD = (
    b"POST /v1/images/edits HTTP/1.1\r\nhost: server\r\ncontent-type: application/json\r\n"
    b"content-length: 1000000\r\n\r\n"
)
PAUSE_S = 0.5  # between two chunks of a body


def connected(server: Server) -> socket.socket:
    address = urlsplit(server.url)
    return socket.create_connection((address.hostname or "", address.port or 0), timeout=30)


def answer_of(client: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    return b"".join(iter(lambda: client.recv(2**16), b""))


def test_uploads_that_send_nothing_lose_their_places_to_an_edit(
    server: Server, http: httpx.Client, photographs: dict[str, bytes]
) -> None:
    places = ServeConfig().max_in_flight
    with ExitStack() as stack:
        idle = [stack.enter_context(connected(server)) for _ in range(places)]
        for client in idle:
            client.sendall(HEAD)
        assert eventually(lambda: metrics_of(server).get("rayedit_in_flight") == places)
        assert post_form(http, photographs["coffee"]).status_code == 503
        for answer in map(answer_of, idle):
            assert answer.startswith(b"HTTP/1.1 408 ") and b'"code":"body_too_slow"' in answer
            assert b"the body came too slowly: 0 bytes in 10 s" in answer
        assert post_form(http, photographs["coffee"], num_inference_steps=4).status_code == 200


@pytest.mark.slow
def test_a_body_that_trickles_is_given_up_and_a_slow_one_is_read(server: Server) -> None:
    def send(chunk: bytes, times: int) -> tuple[bytes, int]:
        """Returns the answer, and how many chunks were sent before it came."""
        with connected(server) as client:
            client.sendall(HEAD.replace(b"1000000", str(len(chunk) * times).encode()))
            sent = 0
            for _ in range(times):
                client.sendall(chunk)
                sent += 1
                if select.select([client], [], [], PAUSE_S)[0]:
                    break
            return client.recv(2**16), sent

    patience = int(IDLE_S / PAUSE_S)
    trickled, sent = send(b" ", 3 * patience)
    assert trickled.startswith(b"HTTP/1.1 408 ") and sent < 3 * patience
    chunk = b" " * int(1.2 * MIN_BYTES_PER_S * PAUSE_S)
    slow, sent = send(chunk, times := patience + 4)  # it takes longer than an idle one may
    assert slow.startswith(b"HTTP/1.1 400 ") and sent == times
