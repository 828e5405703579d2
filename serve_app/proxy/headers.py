"""A bound on the head of a request, as Serve's proxy reads it.

The proxy is uvicorn with httptools, whose parser has no bound and keeps all of it in memory. Serve
has no setting for the protocol, so uvicorn's table of them is changed (checked with uvicorn 0.54).
"""

from __future__ import annotations

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 2**10  # h11's bound


class HeadTooLong(Exception):
    """The parser stops where this is raised in a callback of it."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """Closes a connection that sends too much between two pieces of a request, or a head that is
    too long, with 431 where no answer is on its way.

    A piece is a whole head, or some bytes of a body. So headers without end are cut off after
    `MAX_HEAD_BYTES`, and so are the extensions and trailers of a chunked body; a head that one read
    of the socket brings whole is measured when it is parsed.
    """

    _pending_bytes = 0
    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        self._pending_bytes += len(data)
        super().data_received(data)
        if self._pending_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse()

    def send_400_response(self, msg: str) -> None:
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse()
        else:
            super().send_400_response(msg)

    def _refuse(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(
                STATUS_LINE[431] + b"content-length: 0\r\nconnection: close\r\n\r\n"
            )
        self.transport.close()

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._head_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + len(b": \r\n")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._pending_bytes = 0
        if self._head_bytes > MAX_HEAD_BYTES:
            raise HeadTooLong
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._pending_bytes = 0
        super().on_body(body)


def bound_headers() -> None:
    """Make `BoundedHttpProtocol` the default of every server that uvicorn starts in this process
    from now on."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedHttpProtocol.__name__}"
