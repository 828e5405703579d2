"""The playground: one page at `/` and its files, under headers that keep it to its own origin."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import Template

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

FOLDER = Path(__file__).parent
MEDIA_TYPES = {  # what is served of FOLDER; nothing else is
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
}

HEADERS = {
    # Nothing from elsewhere, nothing inline; pictures also from memory (blob:).
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'",
    "cache-control": "no-cache",  # kept, but asked for again: an ETag makes that a 304
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True)
class Asset:
    """A file of the playground, in memory."""

    body: bytes
    media_type: str

    @cached_property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'

    def response(self, request: Request) -> Response:
        """Answer with the file, or with 304 where the client has it already."""
        headers = {**HEADERS, "etag": self.etag}
        known = request.headers.get("if-none-match", "")
        if self.etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(self.body, media_type=self.media_type, headers=headers)


def read_assets(max_body_bytes: int) -> dict[str, Asset]:
    """Read the files by their path under FOLDER. The page is told the largest body, so that it can
    refuse a photograph before it is sent."""
    assets = {}
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix in MEDIA_TYPES:
            name, body = path.relative_to(FOLDER).as_posix(), path.read_bytes()
            if path.suffix == ".html":
                text = Template(body.decode()).substitute(max_body_bytes=max_body_bytes)
                body = text.encode()
            assets[name] = Asset(body, MEDIA_TYPES[path.suffix])
    return assets


def add_playground(app: FastAPI, max_body_bytes: int) -> None:
    """Serve the page at `/`, and its files under `/playground/`."""
    assets = read_assets(max_body_bytes)

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def home(request: Request) -> Response:
        return assets["index.html"].response(request)

    @app.api_route("/playground/{name:path}", methods=["GET", "HEAD"], include_in_schema=False)
    async def file(request: Request, name: str) -> Response:
        if name not in assets:
            raise HTTPException(404, "the playground has no such file")
        return assets[name].response(request)
