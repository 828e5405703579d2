"""The server, the official SDK's client, and plain HTTP."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncGenerator, Iterator

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from engine.edit import EditOutcome, EditRequest, EditResult
from engine.errors import NotReady
from engine.spec import ModelSpec
from serve_app.backend import Backend, Preview
from serve_app.config import ServeConfig
from serve_app.ingress.admission import Observe
from serve_app.ingress.keys import ApiKeys
from serve_app.ingress.models import ServedModel
from serve_app.ingress.service import EditService
from serve_app.schemas import Readiness
from tests.serving import Server, eventually, server

__all__ = ["server"]

PROMPT = "make it night"


class Mirror:
    """A backend that gives the photograph back: no model is needed to be refused."""

    async def edit(self, request: EditRequest) -> EditOutcome:
        return EditResult(
            request.id, [request.pixels], [request.options.seed], reconstructed=request.pixels
        )

    async def edit_stream(
        self, request: EditRequest
    ) -> AsyncGenerator[Preview | EditOutcome, None]:
        yield await self.edit(request)

    async def ready(self) -> Readiness:
        raise NotReady("nobody asks")


def service_of(
    config: ServeConfig,
    spec: ModelSpec,
    backend: Backend,
    keys: ApiKeys | None = None,
    observe: Observe = lambda *_: None,
) -> EditService:
    """The service of one model, under its own name."""
    return EditService(config, [ServedModel(spec.name, spec, backend)], keys, observe)


@pytest.fixture(scope="session")
def sdk(server: Server) -> Iterator[openai.OpenAI]:
    """OpenAI's client; a fault is raised at once, not retried."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="session")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def post_form(http: httpx.Client, data: bytes, /, **fields: object) -> httpx.Response:
    """The edit of an image file as multipart."""
    form = {name: str(value) for name, value in {"prompt": PROMPT, **fields}.items()}
    return http.post("/v1/images/edits", data=form, files={"image": ("photo.jpg", data)})


def post_json(http: httpx.Client, image_url: str, /, **fields: object) -> httpx.Response:
    """The edit of an image URL as JSON."""
    body = {"prompt": PROMPT, "images": [{"image_url": image_url}], **fields}
    return http.post("/v1/images/edits", json=body)


def in_flight(http: httpx.Client) -> int:
    """Count the edits that the replica waits for or runs."""
    return http.get("/readyz").json()["in_flight"]


def becomes_idle(http: httpx.Client, timeout_s: float = 3) -> bool:
    """Wait until the replica has nothing to do, for less than any edit that a test gives up."""
    return eventually(lambda: in_flight(http) == 0, timeout_s)


def data_url(data: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def files_of(response: httpx.Response) -> list[bytes]:
    """The image files of a 200."""
    assert response.status_code == 200, response.text
    return [base64.b64decode(image["b64_json"]) for image in response.json()["data"]]


def pixels_of(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)))
