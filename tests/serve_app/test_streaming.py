"""`stream=true`: OpenAI's events, in order, true to the edit; what ends a stream early."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator

import httpx
import openai
import pytest
from pydantic import TypeAdapter

from tests.serve_app.conftest import (
    PROMPT,
    becomes_idle,
    files_of,
    in_flight,
    pixels_of,
    post_form,
)
from tests.serving import Server

EVENT: TypeAdapter[object] = TypeAdapter(openai.types.ImageEditStreamEvent)


def stream_form(
    http: httpx.Client, data: bytes, /, **fields: object
) -> Iterator[tuple[str, dict[str, object]]]:
    """The events of an edit as (name, data), and its comments as ("", {})."""
    form = {key: str(value) for key, value in {"prompt": PROMPT, **fields}.items()}
    files = {"image": ("photo.jpg", data)}
    with http.stream(
        "POST", "/v1/images/edits", data={"stream": "true", **form}, files=files
    ) as response:
        if response.status_code != 200:
            response.read()
            raise AssertionError(response.text)
        assert response.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in response.iter_lines():
            if line.startswith(":"):
                yield "", {}
            elif line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))


def events_of(
    http: httpx.Client, data: bytes, /, **fields: object
) -> list[tuple[str, dict[str, object]]]:
    return [event for event in stream_form(http, data, **fields) if event[0]]


@pytest.mark.parametrize("partial_images", [0, 1, 3])
def test_a_stream_has_the_previews_asked_for_and_then_the_edit(
    http: httpx.Client, photographs: dict[str, bytes], partial_images: int
) -> None:
    options = {"seed": 7, "num_inference_steps": 6}
    events = events_of(http, photographs["coffee"], partial_images=partial_images, **options)
    names = ["image_edit.partial_image"] * partial_images + ["image_edit.completed"]
    assert [name for name, _ in events] == names
    assert [data["type"] for _, data in events] == names
    assert [data["partial_image_index"] for _, data in events[:-1]] == [*range(partial_images)]
    for name, data in events:
        EVENT.validate_python(data)  # every field that OpenAI's own types require
        # the edit has the photograph's size, a preview that of the canvas that holds all of it
        width, height = (600, 400) if name == "image_edit.completed" else (64, 43)
        assert (data["size"], data["output_format"]) == (f"{width}x{height}", "png")
        assert pixels_of(base64.b64decode(str(data["b64_json"]))).shape == (height, width, 3)
    assert len({str(data["b64_json"]) for _, data in events}) == len(events)
    (file,) = files_of(post_form(http, photographs["coffee"], **options))
    assert base64.b64decode(str(events[-1][1]["b64_json"])) == file
    assert events[-1][1]["seed"] == 7


def test_a_stream_of_n_images_completes_each_of_them(
    http: httpx.Client, photographs: dict[str, bytes]
) -> None:
    options = {"seed": 7, "num_inference_steps": 4, "n": 2}
    events = events_of(http, photographs["coffee"], partial_images=1, **options)
    assert [name for name, _ in events] == [
        "image_edit.partial_image",
        "image_edit.completed",
        "image_edit.completed",
    ]
    streamed = [base64.b64decode(str(data["b64_json"])) for _, data in events[1:]]
    assert streamed == files_of(post_form(http, photographs["coffee"], **options))


def test_the_sdk_streams_sync_and_async(
    sdk: openai.OpenAI, server: Server, photographs: dict[str, bytes]
) -> None:
    image = ("photo.jpg", photographs["coffee"])
    extra = {"seed": 7, "num_inference_steps": 4}
    with sdk.images.edit(
        image=image, prompt=PROMPT, stream=True, partial_images=2, extra_body=extra
    ) as stream:
        events = list(stream)
    assert [type(event).__name__ for event in events] == [
        "ImageEditPartialImageEvent",
        "ImageEditPartialImageEvent",
        "ImageEditCompletedEvent",
    ]

    async def last() -> str:
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="none", max_retries=0
        ) as client:
            stream = await client.images.edit(
                image=image, prompt=PROMPT, stream=True, extra_body=extra
            )
            return [event async for event in stream][-1].b64_json

    assert asyncio.run(last()) == events[-1].b64_json


def test_what_is_known_to_be_wrong_before_the_model_runs_is_an_http_error(
    sdk: openai.OpenAI,
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.images.edit(image=("photo.png", b"no picture"), prompt=PROMPT, stream=True)
    assert caught.value.code == "image_unsupported"


def test_what_the_model_refuses_ends_the_stream_with_an_error_event(
    http: httpx.Client, sdk: openai.OpenAI, photographs: dict[str, bytes]
) -> None:
    prompt = "a vase and " * 150
    ((name, data),) = events_of(http, photographs["coffee"], prompt=prompt)
    assert name == "error"
    error = data["error"]
    assert isinstance(error, dict)
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == ("instruction_too_long", "prompt")
    with pytest.raises(openai.APIError) as caught:
        list(sdk.images.edit(image=("a.jpg", photographs["coffee"]), prompt=prompt, stream=True))
    assert caught.value.code == "instruction_too_long"


def test_comments_keep_a_silent_stream_open(
    http: httpx.Client, photographs: dict[str, bytes]
) -> None:
    events = stream_form(http, photographs["coffee"], num_inference_steps=100, n=4)
    assert [name for name, _ in (next(events), next(events))] == ["", ""]
    events.close()  # type: ignore[attr-defined]


def test_an_edit_whose_stream_was_left_is_computed_no_further(
    http: httpx.Client, photographs: dict[str, bytes]
) -> None:
    events = stream_form(
        http, photographs["coffee"], num_inference_steps=100, n=4, partial_images=3
    )
    while next(events)[0] != "image_edit.partial_image":
        pass
    assert in_flight(http) == 1
    events.close()  # type: ignore[attr-defined]
    assert becomes_idle(http)
