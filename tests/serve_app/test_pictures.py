"""Pictures as they come and go: the formats that are taken, what a file tells, what is transparent.

The app in this process, whose edits are the photographs themselves.
"""

from __future__ import annotations

import base64
import io
import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
from PIL import Image

from engine.errors import OptionInvalid
from engine.options import EditOptions
from engine.png import text_of
from engine.recipe import read_command
from engine.spec import ModelSpec
from engine.wire import OutputFormat
from serve_app.config import ServeConfig
from serve_app.ingress.api import make_app
from serve_app.ingress.codec_tasks import check_output
from tests.conftest import photograph
from tests.engine.files import saved
from tests.serve_app.conftest import PROMPT, Mirror, files_of, post_form, service_of
from tests.serve_app.local import over_http
from tests.serve_app.test_refusals import check_error

COFFEE = Image.fromarray(photograph("coffee")).resize((96, 64))
GIF = saved(COFFEE, "GIF")
PLAIN = {"seed": 7, "num_inference_steps": 4, "detail": "model"}


@contextmanager
def served(pocket: ModelSpec, **settings: object) -> Iterator[httpx.Client]:
    config = ServeConfig.of({"decode_workers": 1, **settings})
    service = service_of(config, pocket, Mirror())
    with over_http(make_app(service)) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client
    service.close()


@pytest.fixture(scope="module")
def app(pocket: ModelSpec) -> Iterator[httpx.Client]:
    with served(pocket) as client:
        yield client


@pytest.fixture(scope="module")
def mute(pocket: ModelSpec) -> Iterator[httpx.Client]:
    """A server that takes GIF too, and writes nothing into its pictures."""
    with served(pocket, accept=["gif"], metadata=False) as client:
        yield client


def test_a_png_carries_the_command_that_makes_it_and_the_pixels_are_the_same_without(
    app: httpx.Client, mute: httpx.Client
) -> None:
    photo = saved(COFFEE, "JPEG", comment="a secret")
    (told,), (untold,) = (files_of(post_form(one, photo, **PLAIN)) for one in (app, mute))
    line = text_of(told)
    assert line is not None and text_of(untold) is None
    words = read_command(line)
    assert words is not None and words[:4] == ["rayedit", "edit", "SOURCE", PROMPT]
    assert shlex.join(words) == line and words[-2:] == ["--seed", "7"]
    assert b"a secret" not in told and "photo.jpg" not in line
    images = [np.asarray(Image.open(io.BytesIO(file))) for file in (told, untold)]
    assert np.array_equal(*images)


def test_neither_previews_nor_masks_nor_other_formats_carry_it(app: httpx.Client) -> None:
    photo = saved(COFFEE, "PNG")
    for format in ("jpeg", "webp"):
        (file,) = files_of(post_form(app, photo, output_format=format, **PLAIN))
        assert b"rayedit" not in file
    answer = post_form(app, photo, return_mask=True, **PLAIN).json()["data"][0]
    assert text_of(base64.b64decode(answer["mask_b64_json"])) is None
    assert text_of(base64.b64decode(answer["b64_json"])) is not None


def test_another_format_is_taken_where_the_operator_says_so_and_named_in_the_contract(
    app: httpx.Client, mute: httpx.Client
) -> None:
    assert len(files_of(post_form(mute, GIF, **PLAIN))) == 1
    check_error(post_form(app, GIF, **PLAIN), 400, "image_unsupported", "image")
    contracts = [json.dumps(one.get("/openapi.json").json()) for one in (app, mute)]
    assert ["JPEG, PNG, WebP or GIF" in contract for contract in contracts] == [False, True]


def test_a_transparent_source_is_transparent_again_where_that_is_asked_for(
    app: httpx.Client,
) -> None:
    alpha = np.tile(np.linspace(0, 255, 96).astype(np.uint8), (64, 1))
    clear = saved(Image.fromarray(np.dstack([np.asarray(COFFEE), alpha])), "PNG")
    for format in ("png", "webp"):
        wish = {"background": "transparent", "output_format": format}
        answer = post_form(app, clear, **wish, **PLAIN)
        (file,) = files_of(answer)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(file)))[..., 3], alpha)
        assert answer.json()["background"] == "transparent" and answer.json()["warnings"] == []
    flat = post_form(app, clear, **PLAIN)
    assert Image.open(io.BytesIO(files_of(flat)[0])).mode == "RGB"
    assert flat.json()["background"] == "opaque"
    assert flat.json()["warnings"] == ["alpha_flattened"]
    refused = post_form(app, clear, background="transparent", output_format="jpeg")
    check_error(refused, 400, "option_invalid", "background")


@pytest.mark.parametrize(
    ("format", "background", "most"),
    [("webp", "opaque", 28), ("webp", "transparent", 12), ("png", "transparent", 36)],
)
def test_what_a_process_has_no_memory_to_encode_is_refused(
    pocket: ModelSpec, format: OutputFormat, background: str, most: int
) -> None:
    options = pocket.resolve(EditOptions.parse({"background": background}), seed=0)
    check_output(format, options, most * 1_000_000)
    with pytest.raises(OptionInvalid, match=f"at most {most},000,000 pixels"):
        check_output(format, options, most * 1_000_000 + 1)
