"""One class, one code, one status: also for what only HTTP knows."""

from __future__ import annotations

import asyncio
import json
import pickle

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import ClientDisconnect

from engine.edit import EditFailure
from engine.error_codes import error_classes
from engine.errors import EngineError, InternalError, ModelError, Overloaded, WorkerCrashed
from serve_app import errors
from serve_app.error_response import error_response, install_error_handlers
from serve_app.errors import RateLimited, engine_error

OURS = error_classes(errors.__name__)


def test_every_error_of_http_has_a_code_of_its_own_and_stands_in_the_tree() -> None:
    codes = [cls.code for cls in [*OURS, *error_classes()]]
    assert len(set(codes)) == len(codes)
    for cls in OURS:
        assert [cls.code, str(cls.status)] == next(
            line.split()[-2:]
            for line in (errors.__doc__ or "").splitlines()
            if cls.__name__ in line
        )


def test_when_to_try_again_survives_a_process_boundary() -> None:
    error = pickle.loads(pickle.dumps(RateLimited("too much", retry_after_s=7)))
    assert (type(error), error.message, error.retry_after_s) == (RateLimited, "too much", 7)


@pytest.mark.parametrize("cls", error_classes())
def test_a_failure_from_a_replica_is_the_error_that_it_was(cls: type[EngineError]) -> None:
    error = EditFailure.of("a", cls("what happened", param="seed")).error()
    assert (type(error), error.message, error.param) == (cls, "what happened", "seed")


@pytest.mark.parametrize(
    ("caught", "code"),
    [
        (Overloaded("full"), "overloaded"),
        (ClientDisconnect(), "cancelled"),
        (asyncio.CancelledError(), "cancelled"),
        (GeneratorExit(), "cancelled"),
        (KeyError("x"), "internal_error"),
    ],
)
def test_whatever_is_raised_has_a_place_in_the_tree(caught: BaseException, code: str) -> None:
    assert engine_error(caught).code == code


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (Overloaded("full", retry_after_s=7), {"retry-after": "7"}),
        (Overloaded("full"), {"retry-after": "1"}),
        (RateLimited("too much", retry_after_s=9), {"retry-after": "9"}),
        (WorkerCrashed("died twice"), {"retry-after": "1", "x-should-retry": "false"}),
        (ModelError("gone"), {"x-should-retry": "false"}),
        (errors.BodyTooSlow("slow"), {"connection": "close"}),
        (errors.KeyInvalid("who?"), {}),
    ],
    ids=lambda value: getattr(value, "code", ""),
)
def test_a_client_is_told_whether_and_when_to_try_again(
    error: EngineError, headers: dict[str, str]
) -> None:
    response = error_response(error)
    told = {"retry-after", "x-should-retry", "connection"} & set(response.headers)
    assert {name: response.headers[name] for name in told} == headers
    assert (response.status_code, json.loads(response.body)["error"]["code"]) == (
        error.status,
        error.code,
    )


def test_what_an_internal_error_says_stays_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    response = error_response(InternalError("KeyError: 'secret'"))
    assert b"secret" not in bytes(response.body)
    assert "secret" in caplog.text


def test_what_the_router_refuses_is_ours_too() -> None:
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/numbers/{number}")
    async def number(number: int) -> int:
        return number

    async def ask(method: str, path: str) -> tuple[int, str, str]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
            response = await http.request(method, path)
            error = response.json()["error"]
            return response.status_code, error["code"], error["message"]

    assert asyncio.run(ask("GET", "/x")) == (
        404,
        "route_not_found",
        "GET /x: Not Found; served here: GET /numbers/{number}",
    )
    assert asyncio.run(ask("POST", "/numbers/1"))[:2] == (405, "method_not_allowed")
    assert asyncio.run(ask("GET", "/numbers/one"))[:2] == (422, "path_invalid")
