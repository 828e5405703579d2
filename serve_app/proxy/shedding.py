"""While an ingress can take no edit at all, Serve's proxy repeats its refusal: asking it for each
costs as much processor time as a denoising step of the edits that are being made."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.errors import Overloaded
from serve_app.errors import HOLD

Refused = Callable[[str], None]  # called with the code of what was refused here
HOLD_HEADER = HOLD.encode()
OF_ONE_ANSWER = (b"x-request-id", b"date")


@dataclass(slots=True)
class Refusal:
    """An answer that whoever asks until then would get as well (monotonic clock, s)."""

    until_s: float
    start: Message
    body: bytes = b""

    async def give(self, scope: Scope, send: Send) -> None:
        ids = [(name, value) for name, value in scope["headers"] if name == b"x-request-id"]
        await send({**self.start, "headers": [*self.start["headers"], *ids]})
        await send({"type": "http.response.body", "body": self.body})


class Shedder:
    """ASGI middleware: after a refusal with the header `HOLD: seconds`, POSTs to the same path get
    it too, for so long."""

    def __init__(self, app: ASGIApp, refused: Refused = lambda code: None) -> None:
        self._app = app
        self._refused = refused
        self._refusals: dict[str, Refusal] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        refusal = self._refusals.get(scope["path"])
        if refusal is None or refusal.until_s < time.monotonic():
            self._refusals.pop(scope["path"], None)
            await self._app(scope, receive, _Watch(self._refusals, scope["path"], send))
            return
        self._refused(Overloaded.code)
        await refusal.give(scope, send)


class _Watch:
    """Passes an answer on, and keeps it where it says that the next ones would be the same."""

    def __init__(self, refusals: dict[str, Refusal], path: str, send: Send) -> None:
        self._refusals, self._path, self._send = refusals, path, send
        self._refusal: Refusal | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(bytes(name).lower(), value) for name, value in message["headers"]]
            message = {**message, "headers": [pair for pair in headers if pair[0] != HOLD_HEADER]}
            if (hold_s := dict(headers).get(HOLD_HEADER)) is not None:
                until_s = time.monotonic() + float(hold_s)
                kept = [pair for pair in message["headers"] if pair[0] not in OF_ONE_ANSWER]
                self._refusal = Refusal(until_s, {**message, "headers": kept})
        elif self._refusal is not None:
            self._refusal.body += message.get("body", b"")
            if not message.get("more_body"):
                self._refusals[self._path] = self._refusal
        await self._send(message)
