"""The errors that only HTTP knows; `engine.errors` has the rest of the tree.

EngineError
├── RequestError
│   ├── IdempotencyKeyReused   idempotency_key_reused  400
│   ├── KeyInvalid             invalid_api_key         401
│   ├── UrlInvalid             url_invalid             403
│   ├── ResultNotFound         result_not_found        404
│   ├── FileUnknown            file_not_found          404
│   ├── BatchUnknown           batch_not_found         404
│   ├── RouteNotFound          route_not_found         404
│   ├── MethodNotAllowed       method_not_allowed      405
│   ├── BodyTooSlow            body_too_slow           408
│   ├── BodyTooLarge           body_too_large          413
│   ├── MediaTypeUnsupported   unsupported_media_type  415
│   └── PathInvalid            path_invalid            422
└── TransientError
    └── RateLimited            rate_limit_exceeded     429
"""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect

from engine.edit import EditFailure
from engine.errors import Cancelled, EngineError, RequestError, TransientError


class IdempotencyKeyReused(RequestError, code="idempotency_key_reused", status=400):
    """The Idempotency-Key was sent with another edit before."""


class KeyInvalid(RequestError, code="invalid_api_key", status=401):
    """The API key is missing or not one of this server's."""


class UrlInvalid(RequestError, code="url_invalid", status=403):
    """The URL of an image is not one that this server signed, or it has expired."""


class ResultNotFound(RequestError, code="result_not_found", status=404):
    """The image of a URL has been removed."""


class FileUnknown(RequestError, code="file_not_found", status=404, param="file_id"):
    """No file of this API key has the id, or its time is over."""


class BatchUnknown(RequestError, code="batch_not_found", status=404, param="batch_id"):
    """No batch of this API key has the id."""


class RouteNotFound(RequestError, code="route_not_found", status=404):
    """No route has this path."""


class MethodNotAllowed(RequestError, code="method_not_allowed", status=405):
    """The route does not take this method."""


class BodyTooSlow(RequestError, code="body_too_slow", status=408):
    """The HTTP body came too slowly."""


class BodyTooLarge(RequestError, code="body_too_large", status=413):
    """The HTTP body is over the limit."""

    @classmethod
    def over(cls, max_body_bytes: int) -> BodyTooLarge:
        return cls(f"the body of the request is over {max_body_bytes:,} bytes; send a smaller file")


class MediaTypeUnsupported(RequestError, code="unsupported_media_type", status=415):
    """The content type is neither multipart/form-data nor application/json."""


class PathInvalid(RequestError, code="path_invalid", status=422):
    """The path or query cannot be read."""


class RateLimited(TransientError, code="rate_limit_exceeded", status=429):
    """The API key made more edits than it may."""


def engine_error(error: BaseException) -> EngineError:
    """Find the place of any exception in the tree: a client that left is `Cancelled`, what is
    foreign is internal."""
    if isinstance(error, EngineError):
        return error
    if isinstance(error, ClientDisconnect | asyncio.CancelledError | GeneratorExit):
        return Cancelled("the client went away")
    return EditFailure.of("", error).error()
