"""Several images an edit: by the SDK's list, by form and by JSON, in order, within the limits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from engine.catalogue import FLUX2_KLEIN, POCKET
from engine.edit import EditOutcome, EditRequest
from engine.options import EditOptions
from engine.sources import Source, prepare
from engine.spec import ModelSpec
from serve_app.config import ServeConfig
from serve_app.ingress.api import make_app
from tests.conftest import photograph, png
from tests.serve_app.conftest import PROMPT, Mirror, data_url, service_of

KLEIN = replace(FLUX2_KLEIN, resolution=64)
FILES = [png(photograph(name)[:200, :300]) for name in ("coffee", "chelsea", "rocket")]
SEED = {"seed": "7"}


class Witness(Mirror):
    """A mirror that keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[EditRequest] = []

    async def edit(self, request: EditRequest) -> EditOutcome:
        self.requests.append(request)
        return await super().edit(request)


class Served:
    """An app without a server, and what its backend was asked."""

    def __init__(self, spec: ModelSpec, config: ServeConfig) -> None:
        self.backend = Witness()
        self.service = service_of(config, spec, self.backend)
        self.app = make_app(self.service)

    def ask(self, send: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
        async def within() -> Any:
            async with self.client() as client:
                return await send(client)

        return asyncio.run(within())

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            yield client

    def form(self, *images: bytes, field: str = "image[]") -> httpx.Response:
        files = [(field, (f"{i}.png", image)) for i, image in enumerate(images)]
        data = {"prompt": PROMPT, **SEED}
        return self.ask(lambda client: client.post("/v1/images/edits", data=data, files=files))

    def json(self, *images: bytes) -> httpx.Response:
        urls = [{"image_url": data_url(image)} for image in images]
        body = {"prompt": PROMPT, "images": urls, "seed": 7}
        return self.ask(lambda client: client.post("/v1/images/edits", json=body))


@pytest.fixture
def klein() -> Iterator[Served]:
    served = Served(KLEIN, ServeConfig(decode_workers=1, max_body_bytes=2**20))
    yield served
    served.service.close()


@pytest.fixture
def pocket() -> Iterator[Served]:
    served = Served(POCKET, ServeConfig(decode_workers=1))
    yield served
    served.service.close()


def check_asked(request: EditRequest, files: list[bytes]) -> None:
    options = KLEIN.resolve(EditOptions(), seed=7)
    source = Source(files[0], references=tuple(files[1:]))
    wanted = prepare("a", source, PROMPT, options, KLEIN).request
    pictures = [request.pixels, *request.references]
    assert len(pictures) == len(files)
    for found, expected in zip(pictures, [wanted.pixels, *wanted.references], strict=True):
        assert np.array_equal(found, expected)


def test_the_sdks_list_a_form_and_a_json_body_are_one_edit(klein: Served) -> None:
    async def by_sdk(client: httpx.AsyncClient) -> None:
        sdk = openai.AsyncOpenAI(base_url="http://app/v1", api_key="none", http_client=client)
        images = [(f"{i}.png", file) for i, file in enumerate(FILES)]
        made = await sdk.images.edit(image=images, prompt=PROMPT, extra_body=SEED)
        assert made.data is not None and len(made.data) == 1

    klein.ask(by_sdk)
    assert klein.form(*FILES).status_code == 200
    assert klein.form(*FILES, field="image").status_code == 200
    assert klein.json(*FILES).status_code == 200
    for request in klein.backend.requests:
        check_asked(request, FILES)
    assert len(klein.backend.requests) == 4


def test_the_order_of_the_images_is_kept(klein: Served) -> None:
    turned = [FILES[0], FILES[2], FILES[1]]
    assert klein.form(*turned).status_code == klein.json(*turned).status_code == 200
    for request in klein.backend.requests:
        check_asked(request, turned)


@pytest.mark.parametrize("way", ["form", "json"])
def test_a_bad_image_is_named_by_its_place(klein: Served, way: str) -> None:
    response = getattr(klein, way)(FILES[0], b"none", FILES[1])
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "image_unsupported")
    assert error["param"] == "image" and error["message"].startswith("image 2 of 3: ")
    assert klein.backend.requests == []


def test_a_url_that_would_have_to_be_fetched_is_named_by_its_place(klein: Served) -> None:
    urls = [{"image_url": data_url(FILES[0])}, {"image_url": "https://a/b.png"}]
    body = {"prompt": PROMPT, "images": urls}
    response = klein.ask(lambda client: client.post("/v1/images/edits", json=body))
    assert "image 2 of 2: images[1].image_url is a https" in response.json()["error"]["message"]
    body["images"] = [urls[0], {"file_id": "file-1"}]
    response = klein.ask(lambda client: client.post("/v1/images/edits", json=body))
    assert "images[1].file_id" in response.json()["error"]["message"]


@pytest.mark.parametrize(("way", "field"), [("form", "image"), ("json", "images")])
def test_more_than_the_model_takes_are_refused_undecoded_by_the_doors_own_name(
    klein: Served, pocket: Served, way: str, field: str
) -> None:
    for served, count, takes in ((pocket, 2, "one source image"), (klein, 5, "at most 4 source")):
        error = getattr(served, way)(*[b"none"] * count).json()["error"]
        assert (error["code"], error["param"]) == ("option_invalid", field)
        assert takes in error["message"] and error["message"].startswith(f"{field}: model ")
        assert f"got {count}" in error["message"]


def test_the_limit_of_a_body_holds_for_all_images_together(klein: Served) -> None:
    large = png(np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8))
    assert len(large) < 2**19
    assert klein.form(large, large).status_code == 200
    assert klein.form(large, large, large).status_code == 413


def test_openapi_has_the_bound_of_the_served_model(klein: Served, pocket: Served) -> None:
    for served, most in ((klein, 4), (pocket, 1)):
        spec = served.app.openapi()
        content = spec["paths"]["/v1/images/edits"]["post"]["requestBody"]["content"]
        fields = content["application/json"]["schema"]["properties"]
        assert fields["images"]["maxItems"] == most
        assert json.dumps(content["multipart/form-data"]).count('"maxItems"') == (most > 1)
        model = served.ask(lambda client: client.get("/v1/models")).json()["data"][0]
        assert model["max_sources"] == most
