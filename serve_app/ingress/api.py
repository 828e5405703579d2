"""The HTTP routes; each is a line over `EditService`."""

from __future__ import annotations

from fastapi import Depends, FastAPI, Request, Security
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline

import engine
from serve_app.error_response import install_error_handlers
from serve_app.ingress.service import EditService
from serve_app.ingress.streaming import EventStream, event_stream
from serve_app.playground import add_playground
from serve_app.schemas import (
    Health,
    ImagesResponse,
    Model,
    ModelList,
    Readiness,
    edit_request_body,
    error_responses,
)

EDIT_ERRORS = (400, 401, 404, 408, 413, 415, 429, 500, 503, 504)


def make_app(service: EditService) -> FastAPI:
    """Make the ASGI app over `service`; its `/openapi.json` is the API's contract."""
    app = FastAPIOffline(  # /docs without a CDN: many clusters reach none
        title="rayedit",
        version=engine.__version__,
        redoc_url=None,
        description="Edits photographs by instruction: OpenAI's Images API, and a few more fields.",
    )
    install_error_handlers(app)
    _add_openai_routes(app, service)
    _add_operators_routes(app, service)
    add_playground(app, service.config.max_body_bytes)
    return app


def _add_openai_routes(app: FastAPI, service: EditService) -> None:
    key = Security(HTTPBearer(auto_error=False, description="an API key, where there are any"))

    async def authorized(request: Request) -> None:
        service.keys.check(request.headers.get("authorization"))

    open_to = [key, Depends(authorized)]

    @app.post(
        "/v1/images/edits",
        response_model=ImagesResponse,
        responses={200: event_stream(), **error_responses(*EDIT_ERRORS)},
        openapi_extra={"requestBody": edit_request_body(service.spec.max_sources)},
        dependencies=[key],  # which `edit` checks, to count what it refuses
    )
    async def edit_image(request: Request) -> ImagesResponse | EventStream:
        """Edit a photograph by an instruction."""
        return await service.edit(request)

    @app.get("/v1/models", responses=error_responses(401), dependencies=open_to)
    async def list_models() -> ModelList:
        """List the one model that is served."""
        return ModelList(data=[service.model(service.spec.name)])

    @app.get(
        "/v1/models/{model_id:path}", responses=error_responses(401, 404, 422), dependencies=open_to
    )
    async def get_model(model_id: str) -> Model:
        """Describe the served model, by its name."""
        return service.model(model_id)


def _add_operators_routes(app: FastAPI, service: EditService) -> None:
    @app.get("/healthz")
    async def healthz() -> Health:
        """Show that this process answers."""
        return Health()

    @app.get("/readyz", responses=error_responses(500, 503))
    async def readyz() -> Readiness:
        """Show that a replica has its model loaded and answers."""
        return await service.ready()
