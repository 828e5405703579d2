"""Every refusal and fault as OpenAI's error body, with our status and code."""

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
from engine.errors import Cancelled, EngineError, InternalError, OptionInvalid, WorkerCrashed

logger = logging.getLogger("ray.serve")

HOLD = "x-rayedit-hold"  # header: for so many seconds every edit would get this refusal
RETRY_AFTER_S = 1  # an edit takes about a second: a place is free by then, or another 503 says so

# What HTTP itself refuses: status -> code. Everything else has its code in `engine.errors`.
HTTP_CODES = {
    404: "route_not_found",
    405: "method_not_allowed",
    408: "body_too_slow",
    415: "unsupported_media_type",
}


class EditFailed(Exception):
    """Carries the engine's `EditFailure` to the edge of the app; `retry_after_s`: when a place
    will be free, where that is known; `hold_s`: how long every edit would get the same answer."""

    def __init__(
        self, failure: EditFailure, retry_after_s: int = RETRY_AFTER_S, hold_s: float = 0.0
    ) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.retry_after_s = retry_after_s
        self.hold_s = hold_s


def failure_of(error: BaseException) -> EditFailure:
    """What `error` tells a client."""
    if isinstance(error, EditFailed):
        return error.failure
    if isinstance(error, HTTPException):
        code = HTTP_CODES.get(error.status_code, OptionInvalid.code)
        return EditFailure("", code, str(error.detail), status=error.status_code)
    if isinstance(error, ClientDisconnect):
        return EditFailure.of("", Cancelled("the client went away"))
    return EditFailure.of("", error)


def error_body(failure: EditFailure) -> dict[str, dict[str, str | None]]:
    """OpenAI's error body; what an internal error says stays in the log."""
    if failure.code == InternalError.code:
        message = "the server failed on this request; its log has the reason under the request id"
        failure = replace(failure, message=message)
    return wire.error_body(failure)


def error_headers(failure: EditFailure, retry_after_s: int) -> dict[str, str]:
    """What tells a client (the OpenAI SDK among them) whether and when to try again."""
    headers = {}
    if failure.status in (429, 503):
        headers["retry-after"] = str(retry_after_s)
    # A crash was tried again already: a client that insists would kill one replica after another.
    if failure.status >= 500 and (not failure.retryable or failure.code == WorkerCrashed.code):
        headers["x-should-retry"] = "false"
    return headers


def error_response(
    failure: EditFailure,
    headers: dict[str, str] | None = None,
    retry_after_s: int = RETRY_AFTER_S,
) -> JSONResponse:
    log_internal(failure)
    headers = {**(headers or {}), **error_headers(failure, retry_after_s)}
    return JSONResponse(error_body(failure), failure.status, headers)


def log_internal(failure: EditFailure) -> None:
    """The reason of an internal error, which the client is not told."""
    if failure.code == InternalError.code:
        logger.error("an edit failed: %s", failure.message)


def install_error_handlers(app: FastAPI) -> None:
    """Everything that can be raised under `app` becomes an `error_response`."""

    async def any_error(_: Request, error: Exception) -> JSONResponse:
        return error_response(failure_of(error))

    async def edit_failed(_: Request, error: Any) -> JSONResponse:
        held = {HOLD: f"{error.hold_s:.3f}"} if error.hold_s else None
        return error_response(error.failure, held, error.retry_after_s)

    async def http_error(request: Request, error: Any) -> JSONResponse:
        failure = failure_of(error)
        message = f"{request.method} {request.url.path}: {failure.message}"
        return error_response(replace(failure, message=message), dict(error.headers or {}))

    async def invalid(_: Request, error: Any) -> JSONResponse:
        message = "; ".join(f"{e['loc'][-1]}: {e['msg']}" for e in error.errors())
        return error_response(EditFailure("", OptionInvalid.code, message, status=422))

    app.add_exception_handler(EngineError, any_error)
    app.add_exception_handler(EditFailed, edit_failed)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(ClientDisconnect, any_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, any_error)
