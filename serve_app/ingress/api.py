"""The HTTP routes; each is a line over `EditService`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi import Depends, FastAPI, Request, Response, Security
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import engine
from serve_app.error_response import install_error_handlers
from serve_app.ingress.batch_routes import add_batch_routes
from serve_app.ingress.batches import Batches
from serve_app.ingress.edit_schema import edit_request_body
from serve_app.ingress.file_routes import add_file_routes
from serve_app.ingress.idempotency import HEADER, MAX_CHARACTERS, REPLAYED_HEADER
from serve_app.ingress.results import ROUTE, Results, SignedUrl
from serve_app.ingress.service import EditService
from serve_app.ingress.streaming import event_stream
from serve_app.playground import add_playground
from serve_app.schemas import (
    Health,
    ImagesResponse,
    Model,
    ModelList,
    ModelsReadiness,
    Readiness,
    error_responses,
)

SWAGGER_FOLDER = Path(fastapi_offline.__file__).parent / "static"
IDEMPOTENCY_KEY = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": MAX_CHARACTERS},
    "description": "the same edit sent again under the same key within a day has the same answer, "
    "and is not computed again",
}
PROMETHEUS_TEXT = "text/plain; version=0.0.4"
EDIT_ERRORS = (400, 401, 404, 408, 413, 415, 429, 500, 502, 503, 504)


def make_app(service: EditService, metrics: Callable[[], str] = lambda: "") -> FastAPI:
    """Make the ASGI app over `service`; its `/openapi.json` is the API's contract.

    `metrics` reads what `/metrics` answers.
    """
    app = FastAPI(
        title="rayedit",
        version=engine.__version__,
        docs_url=None,
        redoc_url=None,
        servers=[{"url": "."}],  # where this document is, behind whatever prefix
        description="Edits photographs by instruction: OpenAI's Images API, and a few more fields.",
    )
    install_error_handlers(app)
    _add_openai_routes(app, service)
    add_file_routes(app, service.files, service.keys, service.config.accept)
    add_batch_routes(app, Batches.of(service.files, service.config, service.models), service.keys)
    _add_operators_routes(app, service, metrics)
    if service.results is not None:
        _add_results(app, service.results)
    _add_documentation(app)
    add_playground(app, service.config.max_body_bytes)
    app.add_middleware(HeadAsGet)
    if service.config.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=service.config.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],  # the SDK sends a dozen of its own
            expose_headers=["retry-after", "x-request-id", "x-should-retry", REPLAYED_HEADER],
        )
    return app


class HeadAsGet:
    """Answers HEAD as GET, without the body: FastAPI's routes take one method each."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            await send({**message, "body": b""} if "body" in message else message)

        await self._app({**scope, "method": "GET"}, receive, send_head)


def _add_documentation(app: FastAPI) -> None:
    """Serve Swagger's page without a CDN, which many clusters do not reach, and with relative
    addresses: behind a path prefix it works as anywhere."""
    app.mount("/docs-files", StaticFiles(directory=SWAGGER_FOLDER))
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=app.title,
        swagger_js_url="docs-files/swagger-ui-bundle.js",
        swagger_css_url="docs-files/swagger-ui.css",
        swagger_favicon_url="docs-files/favicon.png",
    )

    @app.get("/docs", include_in_schema=False)
    async def documentation() -> Response:
        return page


def _add_openai_routes(app: FastAPI, service: EditService) -> None:
    key = Security(HTTPBearer(auto_error=False, description="an API key, where there are any"))

    async def authorized(request: Request) -> None:
        service.keys.check(request.headers.get("authorization"))

    open_to = [key, Depends(authorized)]
    max_sources = max(model.spec.max_sources for model in service.models)
    body = edit_request_body(max_sources, service.config.accept)

    @app.post(
        "/v1/images/edits",
        response_model=ImagesResponse,
        responses={200: event_stream(), **error_responses(*EDIT_ERRORS)},
        openapi_extra={"requestBody": body, "parameters": [IDEMPOTENCY_KEY]},
        dependencies=[key],  # which `edit` checks, to count what it refuses
    )
    async def edit_image(request: Request) -> ImagesResponse | Response:
        """Edit a photograph by an instruction."""
        return await service.edit(request)

    told: dict[str, Any] = {"dependencies": open_to, "response_model_exclude_none": True}

    @app.get("/v1/models/", include_in_schema=False, **told)
    @app.get("/v1/models", responses=error_responses(401), **told)
    async def list_models() -> ModelList:
        """List the models that are served."""
        return ModelList(data=[await service.model(model.name) for model in service.models])

    @app.get("/v1/models/{model_id:path}", responses=error_responses(401, 404, 422), **told)
    async def get_model(model_id: str) -> Model:
        """Describe a served model, by its name."""
        return await service.model(model_id)


def _add_results(app: FastAPI, results: Results) -> None:
    @app.get(f"/{ROUTE}/{{minute}}/{{file}}", include_in_schema=False)
    def result(minute: str, file: str, expires: str = "", signature: str = "") -> Response:
        image = results.read(SignedUrl(f"{minute}/{file}", expires, signature))
        kind = f"image/{file.rpartition('.')[2]}"
        return Response(image, media_type=kind, headers={"cache-control": "private, immutable"})


def _add_operators_routes(app: FastAPI, service: EditService, metrics: Callable[[], str]) -> None:
    @app.get("/metrics", include_in_schema=False)
    def prometheus(request: Request) -> Response:
        service.keys.check(request.headers.get("authorization"))
        return Response(metrics(), media_type=PROMETHEUS_TEXT)

    @app.get("/healthz")
    async def healthz() -> Health:
        """Show that this process answers."""
        return Health()

    @app.get("/readyz", responses=error_responses(500, 503))
    async def readyz() -> Readiness | ModelsReadiness:
        """Show that a replica has its model loaded and answers; of several models, how each is."""
        return await service.ready()
