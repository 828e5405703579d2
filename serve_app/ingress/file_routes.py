"""`/v1/files`, as OpenAI's SDK uses it; each route is a line over `Files`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response, Security
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPBearer

from serve_app.errors import RouteNotFound
from serve_app.ingress.files import Files
from serve_app.ingress.kept_schemas import FileDeleted, FileList, FileObject
from serve_app.ingress.keys import ApiKeys, Key
from serve_app.ingress.upload import FIELDS, IMAGES, MAX_FILE_BYTES, PURPOSES, read_upload
from serve_app.schemas import error_responses
from storage.file_store import Order

MAX_LISTED = 10_000
READ_ERRORS = (401, 404, 422, 500, 503)
UPLOAD_ERRORS = (400, 401, 404, 408, 413, 415, 500, 503)  # 404: none are kept here
OCTETS = "application/octet-stream"
_DESCRIPTIONS = {
    "file": f"lines of a batch, at most {MAX_FILE_BYTES:,} bytes, or an image",
    "purpose": f"batch; of an image {' or '.join(IMAGES)}, which are the same here",
    "expires_after[anchor]": "created_at: what `expires_after[seconds]` are counted from",
    "expires_after[seconds]": "when it is removed; default: batch 30 days, images never",
}
_SCHEMAS: dict[str, dict[str, Any]] = {
    "file": {"type": "string", "contentMediaType": OCTETS, "format": "binary"},
    "purpose": {"enum": list(PURPOSES)},
    "expires_after[anchor]": {"enum": ["created_at"]},
    "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2_592_000},
}


def key_of(keys: ApiKeys) -> Any:
    """Make the dependency of a route that belongs to an API key: who asks, or a 401."""
    bearer = HTTPBearer(auto_error=False, description="an API key, where there are any")

    documented: Any = Security(bearer)

    def check(request: Request, _: Any = documented) -> Key:
        return keys.check(request.headers.get("authorization"))

    return Depends(check)


def add_file_routes(
    app: FastAPI, files: Files | None, keys: ApiKeys, accept: Collection[str] = ()
) -> None:
    """Add the routes; where no files are kept, refusals that name the setting."""
    if files is None:
        add_refusals(app, "/v1/files")
        return
    _add_upload(app, files, keys, accept)
    _add_reading(app, files, keys)


def add_refusals(app: FastAPI, path: str) -> None:
    """Refuse everything at and below a path, naming the setting that turns it on."""

    async def refuse() -> Response:
        raise RouteNotFound(
            f"{path} is not served here, as the setting files_uri names no place for files: see "
            "docs/serving.md"
        )

    for at in (path, f"{path}/{{rest:path}}"):
        methods = ["GET", "POST", "DELETE"]
        app.add_api_route(at, refuse, methods=methods, include_in_schema=False)


def _add_upload(app: FastAPI, files: Files, keys: ApiKeys, accept: Collection[str]) -> None:
    asking = key_of(keys)

    @app.post(
        "/v1/files",
        response_model=FileObject,
        responses=error_responses(*UPLOAD_ERRORS),
        openapi_extra={"requestBody": _request_body()},
    )
    async def upload_file(request: Request, key: Key = asking) -> FileObject:
        """Keep a file: lines of a batch, or an image that edits name by its `file_id`."""
        return await files.upload(key, lambda: read_upload(request, accept))


def _add_reading(app: FastAPI, files: Files, keys: ApiKeys) -> None:
    errors, asking = error_responses(*READ_ERRORS), key_of(keys)

    @app.get("/v1/files", responses=errors)
    def list_files(
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = MAX_LISTED,
        order: Order = "desc",
        purpose: str | None = None,
        key: Key = asking,
    ) -> FileList:
        """List the files of this API key."""
        return files.page(key, after, limit, order, purpose)

    @app.get("/v1/files/{file_id}", responses=errors)
    def get_file(file_id: str, key: Key = asking) -> FileObject:
        """Describe a file."""
        return files.describe(key, file_id)

    @app.get(
        "/v1/files/{file_id}/content",
        response_class=StreamingResponse,
        responses={200: {"content": {OCTETS: {}}, "description": "its bytes"}, **errors},
    )
    def get_content(file_id: str, key: Key = asking) -> Response:
        """Send the bytes of a file."""
        file = files.find(key, file_id)
        headers = {"content-length": str(file.size_bytes), "cache-control": "private, no-store"}
        return StreamingResponse(files.chunks(key, file), media_type=OCTETS, headers=headers)

    @app.delete("/v1/files/{file_id}", responses=errors)
    def delete_file(file_id: str, key: Key = asking) -> FileDeleted:
        """Remove a file. A batch reads its lines while it runs."""
        return files.remove(key, file_id)


def _request_body() -> dict[str, Any]:
    properties = {name: {**_SCHEMAS[name], "description": _DESCRIPTIONS[name]} for name in FIELDS}
    form = {
        "type": "object",
        "properties": properties,
        "required": ["file", "purpose"],
        "additionalProperties": False,
    }
    return {"required": True, "content": {"multipart/form-data": {"schema": form}}}
