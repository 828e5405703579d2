"""A refusal that everyone would get is repeated by the proxy, for a moment and to the letter."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import httpx
import pytest
from ray.serve._private.http_util import _apply_middlewares
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.edit import EditFailure
from engine.errors import Overloaded
from serve_app.errors import HOLD, error_response
from serve_app.proxy.guard import LIMIT_VARIABLE, EdgeGuard, middlewares
from serve_app.proxy.shedding import Shedder

HOLD_S = 0.2


class Full:
    """An app that refuses every POST, and says whether that holds for a while."""

    def __init__(self, hold_s: float) -> None:
        self.asked = 0
        self._headers = {HOLD: str(hold_s)} if hold_s else {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        failure = EditFailure.of("", Overloaded("about 7 s of work are queued ahead"))
        await error_response(failure, self._headers, 7)(scope, receive, send)


Ask = Callable[..., Awaitable[httpx.Response]]


def run(app: ASGIApp, talk: Callable[[Ask], Awaitable[None]]) -> None:
    async def main() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://proxy") as client:
            await talk(client.request)

    asyncio.run(main())


def test_a_refusal_that_holds_for_all_is_given_without_asking_until_its_time_is_over() -> None:
    full, refused = Full(HOLD_S), []

    async def talk(ask: Ask) -> None:
        first, second = await ask("POST", "/edits"), await ask("POST", "/edits", content=b"x" * 900)
        assert full.asked == 1
        assert (first.status_code, second.status_code) == (503, 503)
        assert first.content == second.content and second.headers["retry-after"] == "7"
        assert HOLD not in first.headers and HOLD not in second.headers
        assert len(second.headers.get_list("x-request-id")) == 1
        assert (await ask("POST", "/edits", headers={"x-request-id": "mine"})).headers[
            "x-request-id"
        ] == "mine"
        await asyncio.sleep(1.5 * HOLD_S)
        await ask("POST", "/edits")
        assert full.asked == 2

    run(EdgeGuard(Shedder(full, refused.append), 1000), talk)
    assert refused == ["overloaded"] * 2


@pytest.mark.parametrize(
    ("hold_s", "method", "path"), [(0, "POST", "/a"), (9, "GET", "/a"), (9, "POST", "/b")]
)
def test_everything_else_is_asked(hold_s: float, method: str, path: str) -> None:
    full = Full(hold_s)

    async def talk(ask: Ask) -> None:
        await ask("POST", "/a")
        await ask(method, path)

    run(Shedder(full), talk)
    assert full.asked == 2


def test_what_is_given_unasked_has_passed_the_guard_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the stack that Ray's proxy builds, in its order."""
    monkeypatch.setenv(LIMIT_VARIABLE, "1000")
    full = Full(9)

    async def talk(ask: Ask) -> None:
        await ask("POST", "/a")
        own = await ask("POST", "/a")
        assert re.fullmatch("[0-9a-f]{32}", own.headers["x-request-id"])
        bad = await ask("POST", "/a", headers={"x-request-id": "a b"})
        assert re.fullmatch("[0-9a-f]{32}", bad.headers["x-request-id"])
        assert (await ask("POST", "/a", content=b"x" * 1001)).status_code == 413

    run(_apply_middlewares(full, middlewares()), talk)
    assert full.asked == 1
