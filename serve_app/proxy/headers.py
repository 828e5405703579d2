"""How much of a request's head Serve's proxy reads: uvicorn's own parser, httptools, has no bound
and keeps all of it in memory."""

from __future__ import annotations

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_BYTES = 64 * 2**10  # as h11's; what one read of the socket brings is looked at whole


class BoundedHttpProtocol(HttpToolsProtocol):
    """Ends a connection that sends more than `MAX_BYTES` which are neither a whole head nor a piece
    of a body: headers without end, and what may stand between and behind the chunks of a body."""

    _pending_bytes = 0

    def data_received(self, data: bytes) -> None:
        self._pending_bytes += len(data)
        super().data_received(data)
        if self._pending_bytes > MAX_BYTES and not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(
                    STATUS_LINE[431] + b"content-length: 0\r\nconnection: close\r\n\r\n"
                )
            self.transport.close()

    def on_headers_complete(self) -> None:
        self._pending_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._pending_bytes = 0
        super().on_body(body)


def bound_headers() -> None:
    """For each server that uvicorn starts in this process from now on, unless it is told otherwise:
    Serve gives its proxy no way to choose the protocol."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedHttpProtocol.__name__}"
