"""`/v1/batches`, as OpenAI's SDK uses it; each route is a line over `Batches`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request

from serve_app.ingress.batches import BatchBody, Batches
from serve_app.ingress.file_routes import READ_ERRORS, add_refusals, key_of
from serve_app.ingress.kept_schemas import Batch, BatchList
from serve_app.ingress.keys import ApiKeys, Key
from serve_app.ingress.parsing import bounded
from serve_app.schemas import error_responses

MAX_LISTED, LISTED = 100, 20  # OpenAI's
MAX_BATCH_BYTES = 64 * 2**10  # of the body, whose metadata can be 37 kB
CREATE_ERRORS = (400, 401, 404, 408, 413, 500, 503)


def add_batch_routes(app: FastAPI, batches: Batches | None, keys: ApiKeys) -> None:
    """Add the routes; where no files are kept, refusals that name the setting."""
    if batches is None:
        add_refusals(app, "/v1/batches")
        return
    asking, errors = key_of(keys), error_responses(*READ_ERRORS)
    body = {"required": True, "content": {"application/json": {"schema": _schema()}}}

    @app.post(
        "/v1/batches",
        responses=error_responses(*CREATE_ERRORS),
        openapi_extra={"requestBody": body},
    )
    async def create_batch(request: Request, key: Key = asking) -> Batch:
        """Have all lines of an uploaded file edited: a job beside the server, which outlives it."""
        sent = b"".join([chunk async for chunk in bounded(request, MAX_BATCH_BYTES)])
        return await asyncio.to_thread(batches.create, key, sent)

    @app.get("/v1/batches", responses=errors)
    def list_batches(
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = LISTED,
        key: Key = asking,
    ) -> BatchList:
        """List the batches of this API key, the newest first."""
        return batches.page(key, after, limit)

    @app.get("/v1/batches/{batch_id}", responses=errors)
    def get_batch(batch_id: str, key: Key = asking) -> Batch:
        """Tell how far a batch is."""
        return batches.retrieve(key, batch_id)

    @app.post("/v1/batches/{batch_id}/cancel", responses=error_responses(400, *READ_ERRORS))
    def cancel_batch(batch_id: str, key: Key = asking) -> Batch:
        """End a batch: what is done is kept, and its files are there a moment later."""
        return batches.cancel(key, batch_id)


def _schema() -> dict[str, Any]:
    """Describe `BatchBody` in one piece: OpenAPI's components know no bodies that are read here."""
    schema = BatchBody.model_json_schema()
    defined = schema.pop("$defs")
    after = schema["properties"]["output_expires_after"]
    after |= defined["ExpiresAfter"] | {"description": after["description"]}
    del after["anyOf"]
    return schema
