"""An error as OpenAI's error body, with its status and what tells a client when to try again."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from engine import wire
from engine.edit import EditFailure
from engine.errors import EngineError, InternalError, TransientError, WorkerCrashed
from engine.fields import MAX_SHOWN
from serve_app.errors import (
    BodyTooSlow,
    MethodNotAllowed,
    PathInvalid,
    RouteNotFound,
    engine_error,
)

logger = logging.getLogger("ray.serve")

RETRY_AFTER_S = 1  # an edit takes about a second: a place is free by then, or another 503 says so
_OF_THE_ROUTER = {error.status: error for error in (RouteNotFound, MethodNotAllowed)}


def error_body(error: EngineError) -> dict[str, dict[str, str | None]]:
    """Return OpenAI's error body; what an internal error says goes to the log alone."""
    failure = EditFailure.of("", error)
    if isinstance(error, InternalError):
        logger.error("an edit failed: %s", error.message)
        message = "the server failed on this request; its log has the reason under the request id"
        failure = replace(failure, message=message)
    return wire.error_body(failure)


def error_response(error: EngineError) -> JSONResponse:
    """Return the answer that `error` is, with the headers that OpenAI's SDK reads."""
    headers = {}
    if error.status in (429, 503):
        known_s = error.retry_after_s if isinstance(error, TransientError) else None
        headers["retry-after"] = str(known_s or RETRY_AFTER_S)
    # A crash was tried again already: a client that insists would kill one replica after another.
    if error.status >= 500 and (not error.retryable or isinstance(error, WorkerCrashed)):
        headers["x-should-retry"] = "false"
    if isinstance(error, BodyTooSlow):
        headers["connection"] = "close"  # the rest of the body may come yet
    return JSONResponse(error_body(error), error.status, headers)


def install_error_handlers(app: FastAPI) -> None:
    """Answer everything that can be raised under `app` with an `error_response`."""

    async def any_error(_: Request, error: Exception) -> JSONResponse:
        return error_response(engine_error(error))

    async def no_route(request: Request, error: Any) -> JSONResponse:
        kind = _OF_THE_ROUTER.get(error.status_code, InternalError)
        asked = f"{request.method} {request.url.path}"[:MAX_SHOWN]
        response = error_response(kind(f"{asked}: {error.detail}; served here: {_served(app)}"))
        response.headers.update(error.headers or {})
        return response

    async def invalid(_: Request, error: Any) -> JSONResponse:
        return error_response(
            PathInvalid("; ".join(f"{e['loc'][-1]}: {e['msg']}" for e in error.errors()))
        )

    app.add_exception_handler(EngineError, any_error)
    app.add_exception_handler(HTTPException, no_route)
    app.add_exception_handler(ClientDisconnect, any_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, any_error)


def _served(app: FastAPI) -> str:
    """List what OpenAPI has: "POST /v1/images/edits, GET /v1/models, ..."."""
    paths: dict[str, dict[str, Any]] = app.openapi()["paths"]
    return ", ".join(f"{method.upper()} {path}" for path, has in paths.items() for method in has)
