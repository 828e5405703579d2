"""The app over HTTP in the test's own process: no Ray, no model, and what was sent is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import uvicorn
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.edit import EditOutcome, EditRequest, EditResult, Guided
from engine.spec import ModelSpec
from serve_app.config import ServeConfig
from serve_app.ingress.api import make_app
from tests.serve_app.conftest import Mirror, service_of
from tests.serving import free_port


@contextmanager
def over_http(app: ASGIApp) -> Iterator[str]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


class Negative(Mirror):
    """A backend whose every image is the photograph's negative, made without a model; where its
    guidance sets itself, in a second try."""

    async def edit(self, request: EditRequest) -> EditOutcome:
        pixels, options = request.pixels, request.options
        seeds = [options.seed + k for k in range(options.num_images)]
        images = [255 - pixels for _ in seeds]
        guided = None if options.auto_guidance == "off" else Guided(2, 3.4, 1.13, None, 0.9)
        return EditResult(request.id, images, seeds, reconstructed=pixels, guided=guided)


@dataclass
class Recorded:
    """The app, and the form of every edit that was sent to it."""

    app: ASGIApp
    url: str = ""
    prefix: str = ""  # that a proxy before it takes from the path
    forms: list[dict[str, str | bytes]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.prefix:
            if not scope["path"].startswith(self.prefix):
                raise ValueError(f"{scope['path']} is not of this application")
            path = scope["path"].removeprefix(self.prefix)
            scope = {**scope, "path": path, "raw_path": path.encode()}
        if scope.get("path") != "/v1/images/edits":
            return await self.app(scope, receive, send)
        messages = [await receive()]
        while messages[-1].get("more_body"):
            messages.append(await receive())
        self.forms.append(await _form_of(scope, messages))

        async def again() -> Message:
            return messages.pop(0) if messages else await receive()

        await self.app(scope, again, send)


async def _form_of(scope: Scope, messages: list[Message]) -> dict[str, str | bytes]:
    left = iter(messages)

    async def receive() -> Message:
        return next(left)

    form = await Request(scope, receive).form()
    return {
        name: await value.read() if isinstance(value, UploadFile) else value
        for name, value in form.multi_items()
    }


@pytest.fixture
def recorded(pocket: ModelSpec) -> Iterator[Recorded]:
    """The app with the backend `Negative`, over HTTP."""
    service = service_of(ServeConfig(decode_workers=1), pocket, Negative())
    found = Recorded(make_app(service))
    with over_http(found) as found.url:
        yield found
    service.close()
