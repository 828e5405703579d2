"""A style over HTTP: the edit that it stands for, to the byte; or a refusal that names it."""

from __future__ import annotations

import httpx
import pytest

from engine.built_in_styles import BUILT_IN
from engine.registry import find_model
from tests.serve_app.conftest import data_url, files_of, post_form, post_json
from tests.serve_app.test_refusals import check_error

FAST = {"num_inference_steps": 2}


def test_a_style_gives_the_bytes_of_the_edit_that_it_stands_for(
    http: httpx.Client, photographs: dict[str, bytes]
) -> None:
    coffee, style = photographs["coffee"], BUILT_IN.by_name["sketch"]
    written_out = post_form(http, coffee, prompt=style.template, **style.given, **FAST)
    by_form = post_form(http, coffee, prompt="", style="sketch", **FAST)
    by_json = post_json(http, data_url(coffee), prompt=None, style="sketch", **FAST)
    assert files_of(by_form) == files_of(written_out) == files_of(by_json)
    assert by_form.json()["data"][0]["seed"] == 42
    own = post_form(http, coffee, prompt="", style="sketch", seed=7, **FAST)
    assert own.json()["data"][0]["seed"] == 7 and files_of(own) != files_of(by_form)


@pytest.mark.parametrize(
    ("fields", "code", "param", "says"),
    [
        ({"style": "sketsch"}, "option_unknown", "style", 'Did you mean "sketch"?'),
        ({"prompt": ""}, "instruction_empty", "prompt", "instruction is empty"),
    ],
)
def test_a_style_that_cannot_be_honoured_is_a_bad_request(
    http: httpx.Client,
    photographs: dict[str, bytes],
    fields: dict[str, str],
    code: str,
    param: str,
    says: str,
) -> None:
    for response in (
        post_form(http, photographs["coffee"], **fields),
        post_json(http, data_url(photographs["coffee"]), **fields),
    ):
        assert says in check_error(response, 400, code, param)


def test_an_empty_style_is_none_in_a_form_and_a_mistake_in_json(
    http: httpx.Client, photographs: dict[str, bytes]
) -> None:
    coffee = photographs["coffee"]
    assert post_form(http, coffee, style="", **FAST).status_code == 200
    refused = post_json(http, data_url(coffee), style="", **FAST)
    assert "at least 1 character" in check_error(refused, 400, "option_invalid", "style")


def test_the_served_model_names_its_styles(http: httpx.Client) -> None:
    (model,) = http.get("/v1/models").json()["data"]
    told = {style["id"]: (style["template"], style["options"]) for style in model["styles"]}
    fitting = BUILT_IN.of_model(find_model("pocket"))
    assert told == {name: (style.template, style.given) for name, style in fitting.items()}
    assert told["film"][1] == {"guidance_scale": 1.0, "image_guidance_scale": 1.0, "seed": 42}
