"""What is refused: by name, with OpenAI's error body, and as the SDK's own exception classes."""

from __future__ import annotations

import json

import httpx
import openai
import pytest

from tests.serve_app.conftest import PROMPT, data_url, post_form, post_json

JPEG_HEAD = b"\xff\xd8\xff\xe0\x00\x10JFIF"


def check_error(response: httpx.Response, status: int, code: str, param: str | None) -> str:
    """All four keys, as expected; returns the message."""
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    kind = "invalid_request_error" if status < 500 else "server_error"
    assert (response.status_code, error["code"], error["param"], error["type"]) == (
        status,
        code,
        param,
        kind,
    )
    assert "Traceback" not in response.text
    return error["message"]


def test_a_text_file_as_an_image_is_a_bad_request_of_the_sdk(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.images.edit(image=("photo.png", b"I am not a picture."), prompt=PROMPT)
    assert (caught.value.code, caught.value.param) == ("image_unsupported", "image")
    assert caught.value.type == "invalid_request_error"


def test_an_unknown_field_is_a_bad_request_with_the_nearest_name(
    sdk: openai.OpenAI, photographs: dict[str, bytes]
) -> None:
    with pytest.raises(openai.BadRequestError, match="num_inference_steps") as caught:
        sdk.images.edit(
            image=("a.jpg", photographs["coffee"]),
            prompt=PROMPT,
            extra_body={"num_inference_step": 4},
        )
    assert (caught.value.code, caught.value.param) == ("option_unknown", "num_inference_step")


def test_an_unknown_model_is_not_found(sdk: openai.OpenAI, photographs: dict[str, bytes]) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.images.edit(
            model="gpt-image-1.5", image=("a.jpg", photographs["coffee"]), prompt=PROMPT
        )
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve("gpt-image-1.5")


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("file:///etc/passwd", "file"),
        ("http://127.0.0.1:1/a.png", "http"),
        ("https://example.com/a.png", "https"),
        ("/etc/passwd", "path"),
        ("../photo.png", "path"),
        ("s3://bucket/a.png", "s3"),
    ],
)
def test_nothing_is_fetched_and_the_scheme_is_named(
    http: httpx.Client, url: str, word: str
) -> None:
    message = check_error(post_json(http, url), 400, "image_source_refused", "images[0].image_url")
    assert f"image_url is a {word};" in message


def test_more_than_one_image_is_refused_by_name(
    http: httpx.Client, sdk: openai.OpenAI, photographs: dict[str, bytes]
) -> None:
    data = photographs["coffee"]
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.images.edit(image=[("a.jpg", data), ("b.jpg", data)], prompt=PROMPT)
    assert (caught.value.code, caught.value.param) == ("option_invalid", "image")
    images = [{"image_url": data_url(data)}] * 2
    response = http.post("/v1/images/edits", json={"prompt": PROMPT, "images": images})
    check_error(response, 400, "option_invalid", "images")


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"prompt": ""}, "instruction_empty", "prompt"),
        ({"prompt": " \u202e "}, "instruction_empty", "prompt"),
        ({"prompt": "x" * 2001}, "instruction_too_long", "prompt"),
        ({"prompt": "a vase and " * 150}, "instruction_too_long", "prompt"),
        ({"guidance_scale": "nan"}, "option_invalid", "guidance_scale"),
        ({"guidance_scale": "21"}, "option_invalid", "guidance_scale"),
        ({"num_inference_steps": "4.5"}, "option_invalid", "num_inference_steps"),
        ({"seed": "-1"}, "option_invalid", "seed"),
        ({"n": "11"}, "option_invalid", "n"),
        ({"size": "65x64"}, "option_invalid", "size"),
        ({"size": "huge"}, "option_invalid", "size"),
        ({"output_format": "gif"}, "option_invalid", "output_format"),
        ({"output_format": "png", "output_compression": "50"}, "option_invalid", None),
        ({"response_format": "url"}, "option_invalid", "response_format"),
        ({"quality": "hd"}, "option_invalid", "quality"),
        ({"stream": "maybe"}, "option_invalid", "stream"),
        ({"partial_images": "2"}, "option_invalid", "partial_images"),
        ({"partial_images": "4", "stream": "true"}, "option_invalid", "partial_images"),
        ({"scheduler": "lcm"}, "option_invalid", "scheduler"),
    ],
)
def test_a_bad_field_of_a_form_is_refused_by_its_name(
    http: httpx.Client,
    photographs: dict[str, bytes],
    fields: dict[str, str],
    code: str,
    param: str | None,
) -> None:
    response = post_form(http, photographs["coffee"], **fields)
    check_error(response, 400, code, param or "output_compression")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e309", '"5"', "true"])
def test_a_json_number_that_is_none_is_refused(
    http: httpx.Client, photographs: dict[str, bytes], number: str
) -> None:
    url = json.dumps(data_url(photographs["coffee"]))
    body = f'{{"prompt": "x", "images": [{{"image_url": {url}}}], "guidance_scale": {number}}}'
    response = http.post(
        "/v1/images/edits", content=body, headers={"content-type": "application/json"}
    )
    check_error(response, 400, "option_invalid", "guidance_scale")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"prompt": "a", "prompt": "b"}',
        b'{"seed": ' + b"9" * 5000 + b"}",
        b'{"\\ud800": 1}',
        b'{"\\ud800": 1, "\\ud800": 2}',
        b'{"model": "\\ud800"}',
        b'{"prompt": "\\ud800"}',
    ],
)
def test_a_body_that_is_no_edit_is_refused(http: httpx.Client, body: bytes) -> None:
    response = http.post(
        "/v1/images/edits", content=body, headers={"content-type": "application/json"}
    )
    assert response.status_code == 400, response.text
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_a_field_given_twice_is_refused_by_name(
    http: httpx.Client, photographs: dict[str, bytes]
) -> None:
    response = http.post(
        "/v1/images/edits",
        data={"prompt": PROMPT, "seed": ["1", "2"]},
        files={"image": ("a.jpg", photographs["coffee"])},
    )
    message = check_error(response, 400, "option_invalid", "seed")
    assert "more than once" in message


def test_a_mask_is_refused_by_name(sdk: openai.OpenAI, photographs: dict[str, bytes]) -> None:
    with pytest.raises(openai.BadRequestError, match="mask") as caught:
        sdk.images.edit(image=("a.jpg", photographs["coffee"]), mask=("m.png", b"x"), prompt=PROMPT)
    assert caught.value.param == "mask"


@pytest.mark.parametrize(
    ("files", "param"),
    [
        ({}, "image"),
        ({"image": (None, "data:image/png;base64,AAAA")}, "image"),
    ],
)
def test_a_form_without_an_image_file_is_refused(
    http: httpx.Client, files: dict[str, tuple[None, str]], param: str
) -> None:
    form = {"prompt": (None, PROMPT), **files}
    response = http.post("/v1/images/edits", files=form)
    check_error(response, 400, "image_missing", param)


def test_a_text_field_sent_as_a_file_is_refused_by_name(
    http: httpx.Client, photographs: dict[str, bytes]
) -> None:
    files = {"image": ("a.jpg", photographs["coffee"]), "prompt": ("p.txt", b"make it night")}
    check_error(http.post("/v1/images/edits", files=files), 400, "option_invalid", "prompt")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "image_missing"),
        (JPEG_HEAD, "image_truncated"),
        (b"GIF89a" + b"\0" * 100, "image_unsupported"),
    ],
)
def test_a_bad_image_is_refused_with_its_code(http: httpx.Client, data: bytes, code: str) -> None:
    check_error(post_form(http, data), 400, code, "image")


def test_a_truncated_image_is_refused(http: httpx.Client, photographs: dict[str, bytes]) -> None:
    data = photographs["coffee"]
    check_error(post_form(http, data[: len(data) // 2]), 400, "image_truncated", "image")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/images/edit", 404, "route_not_found"),
        ("GET", "/v1/images/edits", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
    ],
)
def test_a_wrong_route_answers_in_json(
    http: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    check_error(http.request(method, path), status, code, None)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_another_content_type_is_refused(http: httpx.Client, content_type: str) -> None:
    response = http.post(
        "/v1/images/edits", content=b"prompt=x", headers={"content-type": content_type}
    )
    check_error(response, 415, "unsupported_media_type", None)


def test_a_multipart_body_without_a_boundary_is_refused(http: httpx.Client) -> None:
    response = http.post(
        "/v1/images/edits", content=b"x", headers={"content-type": "multipart/form-data"}
    )
    check_error(response, 400, "option_invalid", None)


@pytest.mark.parametrize("charset", ["undefined", "punycode", "latin-1", "utf-16", "UTF_7"])
def test_a_multipart_body_in_another_charset_is_refused_before_it_is_decoded(
    http: httpx.Client, charset: str
) -> None:
    """Punycode would take more than ten seconds for this body, which is within the bounds."""
    field = b'--x\r\nContent-Disposition: form-data; name="f%d-"\r\n\r\n%s\r\n'
    body = b"".join(field % (at, b"b" * 60_000) for at in range(20)) + b"--x--\r\n"
    kind = f"multipart/form-data; boundary=x; charset={charset}"
    response = http.post("/v1/images/edits", content=body, headers={"content-type": kind})
    assert charset in check_error(response, 400, "option_invalid", None)


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", "utf8"])
def test_a_multipart_body_in_utf_8_may_say_so(http: httpx.Client, charset: str) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na\r\n--x--\r\n'
    kind = f"multipart/form-data; boundary=x; charset={charset}"
    response = http.post("/v1/images/edits", content=body, headers={"content-type": kind})
    check_error(response, 400, "image_missing", "image")
