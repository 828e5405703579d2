"""The guard of Ray Serve's own HTTP proxy: ASGI middleware that runs inside it, outermost.

Serve buffers a body and headers of any length, lets a client's headers switch its timeout off, and
echoes any request id. `run_server` installs the guard in the Ray that it starts; on a cluster, set
the environment variable
`RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=serve_app.proxy.guard.middlewares` for every node before
Ray starts (and `RAYEDIT_MAX_BODY_BYTES`; with `files_uri` also `RAYEDIT_MAX_FILE_BYTES`). The app's
own limits hold either way.
"""

from __future__ import annotations

import logging
import os
import re
import uuid
from collections.abc import Callable

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.errors import EngineError, WorkerCrashed
from engine.images import MAX_BYTES
from serve_app.error_response import error_response
from serve_app.errors import BodyTooLarge
from serve_app.metrics import requests_counter
from serve_app.proxy.headers import bound_headers
from serve_app.ray_private import (
    NO_TIMEOUT,
    PROXY_MIDDLEWARES_VARIABLE,
    STEERING_HEADERS,
    TIMEOUT_HEADER,
)

logger = logging.getLogger("ray.serve")

Refused = Callable[[str], None]  # called with the code of what was refused here

BODY_LIMIT_VARIABLE = "RAYEDIT_MAX_BODY_BYTES"
FILE_LIMIT_VARIABLE = "RAYEDIT_MAX_FILE_BYTES"  # of the body of an upload
FILES_PATH = "/v1/files"
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def guarded_environment(max_body_bytes: int, max_file_bytes: int | None = None) -> dict[str, str]:
    """Return the variables with which a Ray must start for its proxies to be guarded;
    `max_file_bytes`: of the body of an upload, where there are files."""
    of_files = {} if max_file_bytes is None else {FILE_LIMIT_VARIABLE: str(max_file_bytes)}
    return {
        PROXY_MIDDLEWARES_VARIABLE: f"{__name__}.{middlewares.__name__}",
        BODY_LIMIT_VARIABLE: str(max_body_bytes),
        **of_files,
    }


def middlewares() -> list[Middleware]:
    """Return what Serve's proxy is to wrap itself in; it calls this before it starts its server.
    The head of a request is bounded in that server, before there is a request to guard."""
    bound_headers()
    requests = requests_counter()

    def count(code: str) -> None:
        requests.inc(tags={"code": code})

    limit = int(os.environ.get(BODY_LIMIT_VARIABLE, MAX_BYTES))
    of_files = int(os.environ.get(FILE_LIMIT_VARIABLE, limit))
    return [Middleware(ProxyGuard, limit, count, of_files)]


class ProxyGuard:
    """Bounds the body, cleans the headers, gives each request an id that is safe to log, and
    answers in the stead of an ingress that died. `refused` is called with each code it refuses;
    `max_file_bytes`: of the body of an upload, which as a download may take its time."""

    def __init__(
        self,
        app: ASGIApp,
        max_body_bytes: int,
        refused: Refused = lambda code: None,
        max_file_bytes: int | None = None,
    ) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._max_file_bytes = max_file_bytes or max_body_bytes
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, request_id = clean_headers(scope["headers"])
        limit = self._max_body_bytes
        if FILES_PATH in scope.get("path", ""):  # behind whatever prefix; the app bounds its time
            headers.append((TIMEOUT_HEADER, NO_TIMEOUT))
            limit = self._max_file_bytes
        scope = {**scope, "headers": headers}
        body = _Body(scope, receive, send, limit, request_id, self._refused)
        if body.announced > limit:
            await body.refuse(BodyTooLarge.over(limit))
            return
        try:
            await self._app(scope, body.receive, body.send)
        except Exception:
            if body.answered:
                raise
            logger.exception("a request was not answered")
        if not body.answered and not body.gone:
            await body.refuse(WorkerCrashed("the process that held the request died"))


def clean_headers(headers: list[tuple[bytes, bytes]]) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Remove `STEERING_HEADERS` and what is not UTF-8; returns the rest, and the request id that is
    now among it: the client's if it is 1-64 characters of A-Z a-z 0-9 . _ -, or a new one."""
    kept = []
    request_id = uuid.uuid4().hex.encode()
    for name, value in headers:
        if name.lower() == b"x-request-id":
            request_id = value if _REQUEST_ID.fullmatch(value) else request_id
        elif name.lower().replace(b"_", b"-") not in STEERING_HEADERS and _is_utf8(value):
            kept.append((name, value))
    return [*kept, (b"x-request-id", request_id)], request_id


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


class _Body:
    """Counts one request's body on its way in. Over the limit the client gets 413, and the app sees
    a client that went away."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        max_body_bytes: int,
        request_id: bytes,
        refused: Refused,
    ) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._max_body_bytes = max_body_bytes
        self._request_id = request_id
        self._count = refused
        self._size_bytes = 0
        self.answered = False  # by the app, or here in its stead
        self.gone = False  # the client has left
        self._refused = False  # answered here: what the app sends goes nowhere
        length = dict(scope["headers"]).get(b"content-length", b"")
        self.announced = int(length) if length.isdigit() else 0

    async def receive(self) -> Message:
        message = await self._receive()
        self.gone = self.gone or message["type"] == "http.disconnect"
        self._size_bytes += len(message.get("body", b""))
        if self._size_bytes <= self._max_body_bytes:
            return message
        if not self.answered:
            await self.refuse(BodyTooLarge.over(self._max_body_bytes))
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.answered = True
        if not self._refused:
            await self._send(message)

    async def refuse(self, error: EngineError) -> None:
        """Answer with an error in the app's stead."""
        self._refused = self.answered = True
        self._count(error.code)
        response = error_response(error)
        response.headers["x-request-id"] = self._request_id.decode()
        response.headers["connection"] = "close"
        await response(self._scope, self._receive, self._send)
