"""Every refusal and fault as OpenAI's error body, with our status and code."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from engine.edit import EditFailure
from engine.errors import Cancelled, EngineError, InternalError, OptionInvalid

logger = logging.getLogger("ray.serve")

RETRY_AFTER_S = 1  # an edit takes about a second: a place is free by then, or another 503 says so

# What HTTP itself refuses: status -> code. Everything else has its code in `engine.errors`.
HTTP_CODES = {
    404: "route_not_found",
    405: "method_not_allowed",
    415: "unsupported_media_type",
}

# The engine's word -> OpenAI's, where they differ.
_FIELDS = {"instruction": "prompt", "num_images": "n"}


class EditFailed(Exception):
    """Carries the engine's `EditFailure` to the edge of the app."""

    def __init__(self, failure: EditFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def error_body(failure: EditFailure) -> dict[str, dict[str, str | None]]:
    """`{"error": {message, type, param, code}}`: all four keys, always."""
    message, param = failure.message, failure.param
    if failure.code == InternalError.code:
        message = "the server failed on this request; its log has the reason under the request id"
    return {
        "error": {
            "message": _printable(message),
            "type": "invalid_request_error" if failure.status < 500 else "server_error",
            "param": _printable(_FIELDS.get(param, param)) if param else None,
            "code": failure.code,
        }
    }


def error_headers(failure: EditFailure) -> dict[str, str]:
    """What tells a client (the OpenAI SDK among them) whether and when to try again."""
    headers = {}
    if failure.status == 503:
        headers["retry-after"] = str(RETRY_AFTER_S)
    if failure.status >= 500 and not failure.retryable:
        headers["x-should-retry"] = "false"
    return headers


def error_response(failure: EditFailure, headers: dict[str, str] | None = None) -> JSONResponse:
    if failure.code == InternalError.code:
        logger.error("an edit failed: %s", failure.message)
    return JSONResponse(
        error_body(failure), failure.status, {**(headers or {}), **error_headers(failure)}
    )


def install_error_handlers(app: FastAPI) -> None:
    """Everything that can be raised under `app` becomes an `error_response`."""

    async def engine_error(_: Request, error: Exception) -> JSONResponse:
        return error_response(EditFailure.of("", error))

    async def edit_failed(_: Request, error: Any) -> JSONResponse:
        return error_response(error.failure)

    async def http_error(request: Request, error: Any) -> JSONResponse:
        code = HTTP_CODES.get(error.status_code, OptionInvalid.code)
        detail = f"{request.method} {request.url.path}: {error.detail}"
        failure = EditFailure("", code, detail, status=error.status_code)
        return error_response(failure, dict(error.headers or {}))

    async def gone(_: Request, __: Exception) -> JSONResponse:
        return error_response(EditFailure.of("", Cancelled("the client went away")))

    async def invalid(_: Request, error: Any) -> JSONResponse:
        message = "; ".join(f"{e['loc'][-1]}: {e['msg']}" for e in error.errors())
        return error_response(EditFailure("", OptionInvalid.code, message, status=422))

    app.add_exception_handler(EngineError, engine_error)
    app.add_exception_handler(EditFailed, edit_failed)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, engine_error)


def _printable(text: str) -> str:
    """`text` that UTF-8 can carry: a lone surrogate of a client's JSON becomes a question mark."""
    return text.encode("utf-8", "replace").decode()
