"""A real HTTP proxy before a real server, that answers 503 to some requests instead."""

from __future__ import annotations

import http.client
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FaultProxy:
    """Forwards to `port` of this machine. `rate`: the share of requests answered 503 instead, by
    a seed; `outage`: so many of the next requests, whatever they are."""

    port: int
    rate: float = 0.0
    seed: int = 0
    outage: int = 0
    requests: int = 0
    faults: int = 0
    url: str = ""
    _dice: random.Random = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)

    def strikes(self) -> bool:
        with self._lock:
            self.requests += 1
            struck = self.outage > 0 or self._dice.random() < self.rate
            self.outage -= self.outage > 0
            self.faults += struck
            return struck


@contextmanager
def fault_proxy(port: int, **faults: float) -> Iterator[FaultProxy]:
    proxy = FaultProxy(port, **faults)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if proxy.strikes():
                self._answer(503, [], b"<Error><Code>ServiceUnavailable</Code></Error>")
                return
            server = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=60)
            try:
                server.request(self.command, self.path, body, dict(self.headers))
                answer = server.getresponse()
                self._answer(answer.status, answer.getheaders(), answer.read())
            finally:
                server.close()

        def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response_only(status)
            length = str(len(body))
            for name, value in headers:
                if name.lower() == "content-length":
                    length = value  # a HEAD has one without a body
                elif name.lower() not in ("connection", "transfer-encoding"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
