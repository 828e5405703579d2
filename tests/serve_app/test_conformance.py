"""Every parameter that OpenAI's SDK can send is honoured or refused by its name; sync, async and
streaming are the same edit."""

from __future__ import annotations

import asyncio
import base64
import inspect
import io
from typing import Any, get_type_hints

import openai
import pytest
from openai.types import image_edit_params
from PIL import Image

from tests.masks import draw_mask, openai_mask
from tests.serve_app.conftest import PROMPT
from tests.serving import Server

MASK = ("mask.png", openai_mask(draw_mask("box", (600, 400))))  # of the photograph's size
FAST = {"seed": 7, "num_inference_steps": 4}

# A value that this server honours or that means what it does anyway.
HONOURED: dict[str, list[Any]] = {
    "image": [],  # the photograph, in every call below
    "prompt": ["add fog"],
    "background": ["opaque", "auto", "transparent"],
    "mask": [MASK],
    "model": ["pocket"],
    "input_fidelity": ["low", "high"],
    "n": [2, 10],
    "output_compression": [100],
    "output_format": ["png", "jpeg", "webp"],
    "partial_images": [0],
    "quality": ["low", "medium", "high", "auto"],
    "response_format": ["b64_json"],
    "safety_identifier": ["user-1"],
    "size": ["auto", "64x48"],
    "stream": [False],
    "user": ["user-1"],
}
# A value that it cannot honour, and how that is called.
REFUSED: dict[str, list[Any]] = {
    "background": ["clear"],
    "complexity": ["high"],
    "frame_count": [4],
    "frame_duration_ms": [100],
    "markup": [MASK],
    "mask": [("mask.png", b"any")],
    "model": ["gpt-image-2"],
    "n": [11],
    "output_compression": [50],
    "output_format": ["gif", "svg"],
    "partial_images": [1, 4],
    "prompt": ["", "x" * 2001],
    "quality": ["hd", "standard"],
    "response_format": ["url"],
    "size": ["1024x1024", "63x64"],
    "svg": [{"model": "gpt-5"}],
}


def cases(table: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param(name, value, id=f"{name}={str(value)[:20]}")
        for name, values in table.items()
        for value in values
    ]


def edit(client: openai.OpenAI, data: bytes, **fields: Any) -> openai.types.ImagesResponse:
    arguments = {"image": ("photo.jpg", data), "prompt": PROMPT, "extra_body": FAST, **fields}
    return client.images.edit(**arguments)


def test_the_tables_know_every_parameter_of_the_sdk() -> None:
    known = set(get_type_hints(image_edit_params.ImageEditParamsBase)) | {"stream"}
    signature = set(inspect.signature(openai.resources.images.Images.edit).parameters)
    assert known <= signature
    assert known == set(HONOURED) | set(REFUSED)


@pytest.mark.parametrize(("name", "value"), cases(HONOURED))
def test_what_is_supported_is_honoured(
    sdk: openai.OpenAI, photographs: dict[str, bytes], name: str, value: Any
) -> None:
    response = edit(sdk, photographs["coffee"], **{name: value})
    assert response.data is not None
    assert len(response.data) == (value if name == "n" else 1)
    image = Image.open(io.BytesIO(base64.b64decode(response.data[0].b64_json or "")))
    assert image.format == (value.upper() if name == "output_format" else "PNG")
    assert f"{image.width}x{image.height}" == response.size
    assert response.size == ("64x48" if value == "64x48" else "600x400")


@pytest.mark.parametrize(("name", "value"), cases(REFUSED))
def test_what_is_not_supported_is_refused_by_its_name(
    sdk: openai.OpenAI, photographs: dict[str, bytes], name: str, value: Any
) -> None:
    with pytest.raises((openai.BadRequestError, openai.NotFoundError)) as caught:
        edit(sdk, photographs["coffee"], **{name: value})
    assert str(caught.value.param).startswith(name)
    assert caught.value.type == "invalid_request_error"
    assert caught.value.code in {
        "option_invalid",
        "option_unknown",
        "instruction_empty",
        "instruction_too_long",
        "mask_invalid",
        "model_not_found",
    }


def test_sync_async_and_streaming_give_the_same_bytes(
    server: Server, sdk: openai.OpenAI, photographs: dict[str, bytes]
) -> None:
    data = photographs["astronaut"]
    arguments = {"image": ("a.jpg", data), "prompt": PROMPT, "extra_body": FAST, "size": "48x64"}

    async def asynchronous() -> tuple[openai.types.ImagesResponse, list[Any]]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            whole, stream = await asyncio.gather(
                client.images.edit(**arguments),
                client.images.edit(**arguments, stream=True, partial_images=2),
            )
            return whole, [event async for event in stream]

    first = sdk.images.edit(**arguments).data
    whole, events = asyncio.run(asynchronous())
    streamed = list(sdk.images.edit(**arguments, stream=True, partial_images=3))
    assert first is not None and whole.data is not None
    assert (len(events), len(streamed)) == (3, 4)
    last = {event.b64_json for event in (events[-1], streamed[-1])}
    assert last == {first[0].b64_json, whole.data[0].b64_json}
    assert events[-1].usage.total_tokens == 0
    assert events[-1].size == streamed[0].size == "48x64"
