"""What clients expect of OpenAI's API around an edit: names, echoes, methods, origins, paths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from playwright.sync_api import Browser, expect

from engine.spec import ModelSpec
from engine.wire import EditBody
from serve_app.config import ServeConfig
from serve_app.ingress.api import make_app
from tests.serve_app.browser import chromium
from tests.serve_app.conftest import PROMPT, Mirror, post_form, service_of
from tests.serve_app.local import Recorded, over_http, recorded
from tests.serve_app.test_refusals import check_error

__all__ = ["chromium", "recorded"]

ORIGIN = "https://gallery.example"


@pytest.fixture(scope="module")
def app(pocket: ModelSpec) -> Iterator[httpx.Client]:
    """The app in this process, with a setting for each thing that is looked at here."""
    config = ServeConfig(decode_workers=1, aliases=("gpt-image-1",), cors_origins=(ORIGIN,))
    service = service_of(config, pocket, Mirror())
    with over_http(make_app(service)) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client
    service.close()


def test_a_client_that_says_an_alias_is_answered_by_the_model(
    app: httpx.Client, photographs: dict[str, bytes]
) -> None:
    with openai.OpenAI(base_url=f"{app.base_url}/v1", api_key="none") as sdk:
        image = ("a.jpg", photographs["coffee"])
        edited = sdk.images.edit(model="gpt-image-1", image=image, prompt=PROMPT)
        assert edited.model_extra is not None and edited.model_extra["model"] == "pocket"
        assert sdk.models.retrieve("gpt-image-1").id == "pocket"
        assert [model.id for model in sdk.models.list()] == ["pocket"]
        with pytest.raises(openai.NotFoundError):
            sdk.models.retrieve("gpt-image-2")


def test_an_answer_echoes_what_was_asked_for(
    app: httpx.Client, photographs: dict[str, bytes]
) -> None:
    plain = post_form(app, photographs["coffee"]).json()
    high = post_form(app, photographs["coffee"], quality="high", moderation="low").json()
    assert (plain["quality"], high["quality"]) == ("auto", "high")
    assert (high["size"], high["background"], high["usage"]["total_tokens"]) == (
        "600x400",
        "opaque",
        0,
    )


def test_a_high_input_fidelity_asks_for_the_detail_of_the_source() -> None:
    def detail(**fields: object) -> str | None:
        return EditBody.parse({"prompt": "x", **fields}).options().detail

    assert (detail(input_fidelity="high"), detail(input_fidelity="low")) == ("source", None)
    assert detail(input_fidelity="high", detail="model") == "model"


def test_the_models_are_listed_behind_a_slash_too(app: httpx.Client) -> None:
    assert app.get("/v1/models/").json() == app.get("/v1/models").json()


@pytest.mark.parametrize("path", ["/", "/healthz", "/docs", "/openapi.json", "/v1/models"])
def test_head_is_answered_as_get_without_the_body(app: httpx.Client, path: str) -> None:
    head, get = app.head(path), app.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(get.content))
    assert app.head("/v1/nothing").status_code == 404


@pytest.mark.parametrize(
    "path", ["/v1/images/generations", "/v1/chat/completions", "/images/edits"]
)
def test_another_path_of_openais_is_told_what_is_served(app: httpx.Client, path: str) -> None:
    message = check_error(app.post(path, json={}), 404, "route_not_found", None)
    assert f"POST {path}" in message and "served here: POST /v1/images/edits, GET" in message


def test_pages_of_the_origins_that_were_set_may_call_it_and_no_others(app: httpx.Client) -> None:
    asks = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,x-stainless-lang",
    }
    before = app.options("/v1/images/edits", headers={"origin": ORIGIN, **asks})
    assert (before.status_code, before.headers["access-control-allow-origin"]) == (200, ORIGIN)
    refused = app.post("/v1/images/edits", headers={"origin": ORIGIN})
    assert refused.status_code == 415
    assert refused.headers["access-control-allow-origin"] == ORIGIN
    assert "x-request-id" in refused.headers["access-control-expose-headers"]
    other = app.get("/v1/models", headers={"origin": "https://elsewhere.example"})
    assert "access-control-allow-origin" not in other.headers


def test_without_the_setting_no_page_from_elsewhere_is_let_in(pocket: ModelSpec) -> None:
    service = service_of(ServeConfig(decode_workers=1), pocket, Mirror())
    with over_http(make_app(service)) as url:
        answer = httpx.get(f"{url}/v1/models", headers={"origin": ORIGIN})
        assert not any(name.startswith("access-control") for name in answer.headers)
    service.close()


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", "/edits/here"])
def test_swaggers_form_edits_with_an_image_and_a_prompt_alone_behind_any_prefix(
    recorded: Recorded,
    chromium: Browser,
    photographs: dict[str, bytes],
    tmp_path: Path,
    prefix: str,
) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(photographs["coffee"])
    recorded.prefix = prefix
    page = chromium.new_context().new_page()
    failed: list[str] = []
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.goto(f"{recorded.url}{prefix}/docs")
    edit = page.locator("[id*=edit_image]")
    edit.locator("button.opblock-summary-control").click()
    edit.get_by_role("button", name="Try it out").click()
    edit.locator("tr[data-property-name=image] input[type=file]").set_input_files(photo)
    edit.get_by_role("button", name="Execute").click()
    status = edit.locator(".live-responses-table tbody .response-col_status")
    expect(status).to_contain_text("200")
    assert failed == []
    (form,) = recorded.forms
    said = {name: value for name, value in form.items() if value and name != "image"}
    assert said == {"prompt": PROMPT}  # it sends the others empty, as absent ones
    page.context.close()
