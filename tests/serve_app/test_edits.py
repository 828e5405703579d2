"""What a client gets: an edited photograph, the seed that gives it again, OpenAI's shapes."""

from __future__ import annotations

import base64
import io

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from engine import EditActor, EditResult
from engine.images import encode
from engine.results import finished_images
from tests.conftest import Prepare
from tests.serve_app.conftest import (
    PROMPT,
    data_url,
    files_of,
    pixels_of,
    post_form,
    post_json,
)

FAST = {"num_inference_steps": 4}


def edit_by_sdk(
    sdk: openai.OpenAI, data: bytes, **extra: object
) -> tuple[list[bytes], openai.types.ImagesResponse]:
    response = sdk.images.edit(
        image=("photo.jpg", data), prompt=PROMPT, extra_body={**FAST, **extra}
    )
    assert response.data is not None
    return [base64.b64decode(image.b64_json or "") for image in response.data], response


def test_the_openai_sdk_edits_a_photograph(
    sdk: openai.OpenAI, photographs: dict[str, bytes]
) -> None:
    (file,), response = edit_by_sdk(sdk, photographs["coffee"], seed=7)
    image = Image.open(io.BytesIO(file))
    assert (image.format, image.size) == ("PNG", (600, 400))
    assert response.output_format == "png"
    assert response.size == "600x400"
    assert response.created > 1_700_000_000
    assert np.asarray(image).std() > 5


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_picture(
    sdk: openai.OpenAI, photographs: dict[str, bytes]
) -> None:
    first, _ = edit_by_sdk(sdk, photographs["coffee"], seed=7)
    again, _ = edit_by_sdk(sdk, photographs["coffee"], seed=7)
    other, _ = edit_by_sdk(sdk, photographs["coffee"], seed=8)
    assert first == again
    assert first != other


def test_a_seed_that_was_drawn_is_returned_and_replays(
    http: httpx.Client, photographs: dict[str, bytes]
) -> None:
    drawn = post_form(http, photographs["coffee"], **FAST)
    seed = drawn.json()["data"][0]["seed"]
    assert files_of(drawn) == files_of(post_form(http, photographs["coffee"], seed=seed, **FAST))
    assert seed != post_form(http, photographs["coffee"], **FAST).json()["data"][0]["seed"]


def test_every_image_of_n_has_a_seed_of_its_own_that_replays(
    http: httpx.Client, photographs: dict[str, bytes]
) -> None:
    both = post_form(http, photographs["coffee"], n=2, seed=7, **FAST)
    files = files_of(both)
    seeds = [image["seed"] for image in both.json()["data"]]
    assert (len(set(files)), len(set(seeds)), seeds[0]) == (2, 2, 7)
    for file, seed in zip(files, seeds, strict=True):
        assert files_of(post_form(http, photographs["coffee"], seed=seed, **FAST)) == [file]


def test_json_and_multipart_give_the_same_bytes(
    http: httpx.Client, photographs: dict[str, bytes]
) -> None:
    options = {"seed": 7, "guidance_scale": 6.5, "size": "48x64", **FAST}
    form = post_form(http, photographs["chelsea"], **options)
    body = post_json(http, data_url(photographs["chelsea"]), **options)
    assert files_of(form) == files_of(body)
    assert form.json()["size"] == "48x64"


def test_http_gives_the_bytes_that_the_engine_gives(
    http: httpx.Client,
    photographs: dict[str, bytes],
    edit_of: Prepare,
    strict_actor: EditActor,
) -> None:
    prepared = edit_of("astronaut", PROMPT, seed=7, num_inference_steps=4)
    (outcome,) = strict_actor.edit_batch([prepared.request])
    response = post_form(http, photographs["astronaut"], seed=7, **FAST)
    assert isinstance(outcome, EditResult)
    (made,) = finished_images(outcome, prepared.finishing)
    assert files_of(response) == [encode(made.image, command=made.command)]


def test_the_sdk_sends_one_image_as_a_list(
    sdk: openai.OpenAI, photographs: dict[str, bytes]
) -> None:
    response = sdk.images.edit(
        image=[("photo.jpg", photographs["coffee"])], prompt=PROMPT, extra_body=FAST, n=1
    )
    assert response.data is not None
    assert len(response.data) == 1


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_other_formats_are_what_they_say_and_compress(
    http: httpx.Client, photographs: dict[str, bytes], format: str
) -> None:
    sizes = []
    for quality in (20, 95):
        response = post_form(
            http,
            photographs["coffee"],
            seed=7,
            output_format=format,
            output_compression=quality,
            **FAST,
        )
        (file,) = files_of(response)
        assert Image.open(io.BytesIO(file)).format == format.upper()
        assert response.json()["output_format"] == format
        sizes.append(len(file))
    assert sizes[0] < sizes[1]


def test_restore_size_gives_the_photograph_its_size_back(
    http: httpx.Client, photographs: dict[str, bytes]
) -> None:
    response = post_form(http, photographs["coffee"], restore_size="true", seed=7, **FAST)
    assert response.json()["size"] == "600x400"
    assert pixels_of(files_of(response)[0]).shape == (400, 600, 3)


def test_what_was_softened_is_told(http: httpx.Client) -> None:
    buffer = io.BytesIO()
    Image.new("CMYK", (64, 64), (0, 200, 200, 0)).save(buffer, "JPEG")
    response = post_form(http, buffer.getvalue(), seed=7, **FAST)
    assert response.status_code == 200
    assert response.json()["warnings"] == ["cmyk_converted"]


def test_an_edit_that_the_model_does_not_know_is_told_and_refused_where_that_is_asked_for(
    http: httpx.Client, photographs: dict[str, bytes]
) -> None:
    asked = {"prompt": "turn the vase red", "seed": 7, **FAST}
    answer = post_form(http, photographs["coffee"], **asked).json()
    assert answer["warnings"] == ["instruction_unknown"]
    assert answer["understood_as"] == "black and white except red"
    refused = post_form(http, photographs["coffee"], **asked, strict_instruction="true")
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (
        400,
        "instruction_unknown",
        "prompt",
    )


def test_the_served_model_is_listed_and_may_be_named(
    sdk: openai.OpenAI, photographs: dict[str, bytes]
) -> None:
    (model,) = sdk.models.list().data
    assert (model.id, model.object, model.owned_by) == ("pocket", "model", "rayedit")
    assert sdk.models.retrieve("pocket") == model
    edited = sdk.images.edit(
        model="pocket", image=("a.jpg", photographs["coffee"]), prompt=PROMPT, extra_body=FAST
    )
    assert edited.data is not None


def test_health_and_readiness_are_told_apart(http: httpx.Client) -> None:
    assert http.get("/healthz").json() == {"status": "ok"}
    ready = http.get("/readyz").json()
    assert (ready["status"], ready["model"], len(ready["revision"])) == ("ready", "pocket", 64)
