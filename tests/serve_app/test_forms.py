"""Forms as browsers, shells and other languages send them: read as they were meant, or told why."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator

import httpx
import pytest

from engine.spec import ModelSpec
from serve_app.config import ServeConfig
from serve_app.ingress.api import make_app
from serve_app.ingress.form import MAX_PREAMBLE_BYTES
from tests.serve_app.conftest import PROMPT, Mirror, data_url, post_form, post_json, service_of
from tests.serve_app.local import over_http
from tests.serve_app.test_refusals import check_error

OPTIONAL = ["model", "size", "n", "seed", "output_format", "stream", "negative_prompt", "scheduler"]


@pytest.fixture(scope="module")
def app(pocket: ModelSpec) -> Iterator[httpx.Client]:
    """The app in this process, whose edits are the photographs themselves."""
    service = service_of(ServeConfig(decode_workers=1), pocket, Mirror())
    with over_http(make_app(service)) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client
    service.close()


def part(name: str, value: bytes, more: str = "") -> bytes:
    head = f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def post_parts(app: httpx.Client, body: bytes, **headers: str) -> httpx.Response:
    kind = {"content-type": "multipart/form-data; boundary=x"}
    return app.post("/v1/images/edits", content=body, headers={**kind, **headers})


def parts_of(photo: bytes) -> bytes:
    """A form of an image and a prompt, without its last boundary."""
    return part("image", photo, '; filename="a.jpg"') + part("prompt", PROMPT.encode())


@pytest.mark.parametrize("nothing", ["", "null"])
def test_an_empty_field_and_the_text_null_are_absent_ones(
    app: httpx.Client, photographs: dict[str, bytes], nothing: str
) -> None:
    fields = dict.fromkeys(OPTIONAL, nothing)
    assert post_form(app, photographs["coffee"], **fields).status_code == 200


def test_a_file_field_in_which_a_browser_chose_none_is_absent(
    app: httpx.Client, photographs: dict[str, bytes]
) -> None:
    empty = part("mask", b"", '; filename=""') + part("mask", b"")
    assert post_parts(app, parts_of(photographs["coffee"]) + empty + b"--x--").status_code == 200
    none = part("image", b"", '; filename=""') + part("prompt", b"x") + b"--x--"
    assert "image is missing" in check_error(post_parts(app, none), 400, "image_missing", "image")


@pytest.mark.parametrize("name", ["img", "image[0]", "images", "images[]", "image_url"])
def test_another_name_for_the_image_leads_to_one_that_a_form_takes(
    app: httpx.Client, photographs: dict[str, bytes], name: str
) -> None:
    body = part(name, photographs["coffee"], '; filename="a.jpg"') + part("prompt", b"x") + b"--x--"
    message = check_error(post_parts(app, body), 400, "option_unknown", name)
    assert message.endswith('Did you mean "image"?')


@pytest.mark.parametrize(
    ("fields", "param", "told"),
    [
        ({"images": [{"image_ur": "x"}]}, "images[0].image_ur", 'Did you mean "image_url"?'),
        ({"images": ["x"]}, "images[0]", "must be an object with image_url or file_id"),
        ({"images": [{"image_url": 5}]}, "images[0].image_url", "must be a valid string"),
        ({"mask": "x"}, "mask", "must be an object with image_url or file_id"),
        ({"image_url": "x"}, "image_url", 'Did you mean "images"?'),
    ],
)
def test_a_fault_inside_of_a_json_body_is_named_where_it_is(
    app: httpx.Client, fields: dict[str, object], param: str, told: str
) -> None:
    response = app.post("/v1/images/edits", json={"prompt": "x", **fields})
    code = "option_unknown" if "mean" in told else "option_invalid"
    message = check_error(response, 400, code, param)
    assert told in message and "ImageReference" not in message


def test_a_prompt_that_is_not_utf_8_is_refused_and_not_edited_as_another_text(
    app: httpx.Client, photographs: dict[str, bytes]
) -> None:
    image = part("image", photographs["coffee"], '; filename="a.jpg"')
    wrong = post_parts(app, image + part("prompt", "变成夜晚".encode("gbk")) + b"--x--")
    assert "prompt is not UTF-8" in check_error(wrong, 400, "option_invalid", "prompt")
    right = post_parts(app, image + part("prompt", "变成夜晚".encode()) + b"--x--")
    assert right.status_code == 200


@pytest.mark.parametrize("size_bytes", [1_000, 100_000])
def test_an_image_without_a_filename_is_told_how_to_have_one(
    app: httpx.Client, size_bytes: int
) -> None:
    body = part("image", b"\xff\xd8" + b"x" * size_bytes) + part("prompt", b"x") + b"--x--"
    message = check_error(post_parts(app, body), 400, "image_missing", "image")
    assert "give its part a filename" in message


def test_a_body_that_was_cut_off_is_said_to_be(
    app: httpx.Client, photographs: dict[str, bytes]
) -> None:
    whole = parts_of(photographs["coffee"])
    for body in (whole, whole[: len(whole) // 2], part("prompt", b"x")):
        message = check_error(post_parts(app, body), 400, "option_invalid", None)
        assert "cut off" in message
    assert post_parts(app, whole + b"--x--").status_code == 200


def test_a_compressed_body_is_refused_for_what_it_is(app: httpx.Client) -> None:
    body = gzip.compress(json.dumps({"prompt": "x"}).encode())
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    response = app.post("/v1/images/edits", content=body, headers=headers)
    assert "gzip" in check_error(response, 415, "unsupported_media_type", None)


def test_what_mime_lets_stand_before_the_first_boundary_is_skipped(
    app: httpx.Client, photographs: dict[str, bytes]
) -> None:
    whole = parts_of(photographs["coffee"]) + b"--x--"
    for preamble in (b"This is a message in MIME.\r\n", b"\r\n", b"--y\r\n"):
        assert post_parts(app, preamble + whole).status_code == 200
    endless = b"x" * (MAX_PREAMBLE_BYTES + 1) + b"\r\n"
    for body in (endless + whole, b"", b"no boundary"):
        message = check_error(post_parts(app, body), 400, "option_invalid", None)
        assert 'does not hold its boundary "x"' in message


def test_jpg_is_jpeg(app: httpx.Client, photographs: dict[str, bytes]) -> None:
    form = post_form(app, photographs["coffee"], output_format="jpg")
    body = post_json(app, data_url(photographs["coffee"]), output_format="jpg")
    assert form.json()["output_format"] == body.json()["output_format"] == "jpeg"
