"""`mask` over HTTP: OpenAI's, by file and by data URL; what it covers comes back byte for byte."""

from __future__ import annotations

import base64

import httpx
import numpy as np
import openai
import pytest

from tests.conftest import jpeg, photograph, png
from tests.masks import draw_mask, openai_mask
from tests.serve_app.conftest import PROMPT, files_of, pixels_of, post_form

SIZE = (600, 400)
KEEP = {"seed": 7, "num_inference_steps": 2, "detail": "source", "preserve": "auto"}


def png_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def post_masked(http: httpx.Client, mask: bytes, **fields: object) -> httpx.Response:
    files = {"image": ("a.png", png(photograph("coffee"))), "mask": ("m.png", mask)}
    form = {"prompt": PROMPT, **{name: str(value) for name, value in fields.items()}}
    return http.post("/v1/images/edits", data=form, files=files)


@pytest.mark.parametrize("kind", ["box", "soft", "stroke", "border"])
def test_what_the_mask_covers_comes_back_byte_for_byte(http: httpx.Client, kind: str) -> None:
    mask = draw_mask(kind, SIZE)
    response = post_masked(http, openai_mask(mask), seed=7, num_inference_steps=2)
    made, source = pixels_of(files_of(response)[0]), photograph("coffee")
    assert np.array_equal(made[mask == 0], source[mask == 0])
    assert (made[mask == 255] != source[mask == 255]).any()
    report = response.json()["data"][0]["edit_report"]
    assert report["outside_change"] == 0 and 0 <= report["changed_share"] <= 1


def test_the_sdks_mask_is_the_same_edit_as_a_form_as_json_and_as_a_stream(
    sdk: openai.OpenAI, http: httpx.Client
) -> None:
    image, mask = png(photograph("coffee")), openai_mask(draw_mask("ring", SIZE))
    arguments = {"image": ("a.png", image), "mask": ("m.png", mask), "prompt": PROMPT}
    whole = sdk.images.edit(**arguments, extra_body=KEEP).data
    events = list(sdk.images.edit(**arguments, stream=True, partial_images=1, extra_body=KEEP))
    body = {
        "prompt": PROMPT,
        "images": [{"image_url": png_url(image)}],
        "mask": {"image_url": png_url(mask)},
        **KEEP,
    }
    (by_json,) = files_of(http.post("/v1/images/edits", json=body))
    assert whole is not None
    first = base64.b64decode(whole[0].b64_json or "")
    assert first == by_json == base64.b64decode(events[-1].b64_json)
    assert (events[0].size, events[-1].size) == ("64x43", "600x400")  # a preview is of the canvas
    unmasked = {name: value for name, value in body.items() if name != "mask"}
    assert files_of(http.post("/v1/images/edits", json=unmasked)) != [first]


def bad_masks() -> dict[str, tuple[bytes, str]]:
    alpha = np.full((400, 600), 255, np.uint8)
    half = draw_mask("box", SIZE)
    return {
        "of another size": (openai_mask(draw_mask("box", (400, 600))), "same size"),
        "without alpha": (png(photograph("coffee")), "no alpha channel"),
        "no PNG": (jpeg(photograph("coffee")), "is JPEG and no PNG"),
        "all opaque": (openai_mask(0 * alpha), "opaque everywhere"),
        "all transparent": (openai_mask(alpha), "transparent everywhere"),
        "cut": (openai_mask(half)[:-30], "cannot be read"),
        "empty": (b"", "no image"),
    }


@pytest.mark.parametrize("name", bad_masks())
def test_a_mask_that_is_none_has_one_answer_of_its_own(http: httpx.Client, name: str) -> None:
    mask, message = bad_masks()[name]
    response = post_masked(http, mask)
    error = response.json()["error"]
    assert response.status_code == 400 and error["code"] == "mask_invalid"
    assert error["param"] == "mask" and message in error["message"]


def test_a_mask_by_file_id_or_as_text_is_refused_by_its_name(http: httpx.Client) -> None:
    coffee = png(photograph("coffee"))
    body = {"prompt": PROMPT, "images": [{"image_url": png_url(coffee)}]}
    stored = http.post("/v1/images/edits", json={**body, "mask": {"file_id": "file-1"}})
    fetched = http.post("/v1/images/edits", json={**body, "mask": {"image_url": "https://a/b"}})
    texts = post_form(http, coffee, mask="a text")
    assert [r.status_code for r in (stored, fetched, texts)] == [400, 400, 400]
    assert 'there is no file "file-1"' in stored.json()["error"]["message"]
    params = [response.json()["error"]["param"] for response in (stored, fetched, texts)]
    assert params == ["mask.file_id", "mask.image_url", "mask"]
