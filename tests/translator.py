"""An OpenAI-compatible server that translates some texts, and breaks on others."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

SAYS = {"变成夜晚": "make it night\n", "加点雾": "add fog", "不要翻译": "不要翻译", "空": " "}
REDIRECTED = "走开"


class Translator(ThreadingHTTPServer):
    """Knows `SAYS`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.asked: list[tuple[str, str | None]] = []  # text, authorization

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Answer(BaseHTTPRequestHandler):
    server: Translator

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = body["messages"][-1]["content"]
        self.server.asked.append((text, self.headers["authorization"]))
        if text == REDIRECTED:
            self.send_response(302)
            self.send_header("location", f"{self.server.url}/elsewhere")
            self.end_headers()
            return
        is_known = self.path == "/v1/chat/completions" and text in SAYS
        self.send_response(200 if is_known else 500)
        self.end_headers()
        choices = [{"message": {"role": "assistant", "content": SAYS.get(text)}}]
        self.wfile.write(json.dumps({"choices": choices}).encode())

    def do_GET(self) -> None:
        self.server.asked.append(("GET", self.headers["authorization"]))
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def translator() -> Iterator[Translator]:
    with Translator() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()
