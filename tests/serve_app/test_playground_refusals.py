"""What the playground says when something is wrong, and where."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from starlette.types import Message, Receive, Scope, Send

from engine.spec import ModelSpec
from serve_app.config import ServeConfig
from serve_app.ingress.api import make_app
from serve_app.ingress.keys import ApiKeys
from tests.serve_app.browser import Open, Visit, chromium, open_page, visit
from tests.serve_app.conftest import Mirror, service_of
from tests.serve_app.local import over_http
from tests.serving import Server

__all__ = ["chromium", "open_page", "visit"]

NO_IMAGE = "is not a photograph this page can read"


def test_a_text_file_is_refused_beside_the_photograph_and_nothing_is_sent(visit: Visit) -> None:
    before = len(visit.requests)
    visit.choose("photo.jpg", b"to be or not to be")
    visit.page.wait_for_selector("#error-image:not(:empty)")
    assert f"“photo.jpg” {NO_IMAGE}" in visit.text("error-image")
    assert visit.page.get_attribute("#file", "aria-invalid") == "true"
    visit.page.locator("#edit").click()
    assert visit.text("error-image") == "Choose a photograph first."
    assert visit.focused == "file"
    assert visit.requests[before:] == []


def test_the_picture_that_office_programs_add_to_a_text_is_not_taken(visit: Visit) -> None:
    paste = """(type) => {
        const data = new DataTransfer();
        data.items.add(new File(["no image"], "cells.png", { type: "image/png" }));
        if (type) data.setData(type, "add fog");
        dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
    }"""
    visit.page.evaluate(paste, "text/plain")
    visit.page.wait_for_timeout(300)
    assert visit.text("error-image") == ""
    visit.page.evaluate(paste, "")
    visit.page.wait_for_selector("#error-image:has-text('cells.png')")


def test_a_file_over_the_servers_limit_is_refused_before_it_is_sent(
    visit: Visit, photographs: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "huge.jpg").write_bytes(photographs["coffee"] + bytes(25 * 2**20))
    before = len(visit.requests)
    visit.page.set_input_files("#file", tmp_path / "huge.jpg")
    visit.page.wait_for_selector("#error-image:not(:empty)")
    assert "“huge.jpg” has 25.1 MiB; the limit is 25.0 MiB" in visit.text("error-image")
    assert visit.requests[before:] == []


def test_what_the_server_refuses_stands_beside_its_cause(
    open_page: Open, server: Server, photographs: dict[str, bytes]
) -> None:
    visit = open_page(server.url, expected=("status of 400",))
    truncated = io.BytesIO()
    Image.new("RGB", (8, 400)).save(truncated, "PNG")
    visit.choose("thin.png", truncated.getvalue())
    visit.page.fill("#prompt", "make it night")
    visit.page.locator("#edit").click()
    visit.page.wait_for_selector("#error-image:not(:empty)")
    assert "16" in visit.text("error-image")
    visit.choose("coffee.jpg", photographs["coffee"])
    visit.page.wait_for_selector("#error-image:empty", state="attached")
    visit.page.fill("#prompt", "a vase and " * 150)
    visit.page.locator("#edit").click()
    visit.page.wait_for_selector("#error-prompt:not(:empty)")
    assert "token" in visit.text("error-prompt")
    assert visit.focused == "prompt"


def test_a_proxy_that_refuses_in_words_of_its_own_is_understood(
    open_page: Open, server: Server
) -> None:
    visit = open_page(server.url, expected=("status of 413",))
    visit.page.locator("#examples button").first.click()
    visit.wait_for("ready")
    visit.page.fill("#prompt", "make it night")
    visit.page.route("**/v1/images/edits", lambda route: route.fulfill(status=413, body="<html>"))
    visit.page.locator("#edit").click()
    visit.page.wait_for_selector("#error-image:not(:empty)")
    assert visit.text("error-image") == "The server answered 413 without saying why."


def test_a_number_out_of_bounds_is_refused_in_its_field(visit: Visit) -> None:
    visit.page.locator("#examples button").first.click()
    visit.wait_for("ready")
    visit.quick(steps=101)
    visit.page.fill("#prompt", "make it night")
    visit.page.locator("#more > summary").click()  # closed: it opens where the error is
    visit.page.locator("#edit").click()
    assert visit.text("error-num_inference_steps") == "Steps: a whole number from 1 to 100."
    assert visit.focused == "num_inference_steps"


def test_a_connection_that_breaks_in_the_middle_of_an_edit_is_told(
    open_page: Open, pocket: ModelSpec
) -> None:
    service = service_of(ServeConfig(decode_workers=1), pocket, Mirror())
    app = make_app(service)

    async def breaking(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_and_break(message: Message) -> None:
            await send(message)
            if message.get("body"):
                raise ConnectionError

        is_edit = scope.get("path") == "/v1/images/edits"
        await app(scope, receive, send_and_break if is_edit else send)

    with over_http(breaking) as url:
        visit = open_page(url, expected=("ERR_INCOMPLETE_CHUNKED_ENCODING",))
        visit.page.locator("#examples button").first.click()
        visit.wait_for("ready")
        visit.page.fill("#prompt", "make it night")
        visit.page.locator("#edit").click()
        visit.page.wait_for_selector("#error-general:not(:empty)", timeout=10_000)
        assert visit.text("error-general").startswith("The server cannot be reached")
    service.close()


@pytest.fixture
def keyed_url(pocket: ModelSpec) -> Iterator[str]:
    """The app over HTTP where one key, "sesame", may make two edits a minute."""
    keys = ApiKeys({hashlib.sha256(b"sesame").hexdigest(): "reader"}, per_minute=2)
    config = ServeConfig(decode_workers=1)
    service = service_of(config, pocket, Mirror(), keys)
    with over_http(make_app(service)) as url:
        yield url
    service.close()


def test_a_key_is_asked_for_where_it_is_needed_and_a_busy_server_says_until_when(
    open_page: Open, keyed_url: str
) -> None:
    visit = open_page(keyed_url, expected=("status of 401", "status of 429"))
    assert "asks for an API key" in visit.text("error-key")
    visit.page.locator("#examples button").first.click()
    visit.wait_for("ready")
    visit.page.fill("#prompt", "make it night")
    visit.page.fill("#guidance_scale", "9.5")  # before the page knows the model's own
    visit.page.locator("#more > summary").click()
    visit.page.fill("#num_inference_steps", "7")
    for wrong in ("芝麻", "mellon"):  # what no header can carry is wrong as well
        visit.page.fill("#key", wrong)
        visit.page.locator("#edit").click()
        visit.page.wait_for_selector("#error-key:has-text('does not accept')")
        assert visit.focused == "key"
    visit.page.fill("#key", "sesame")
    visit.page.evaluate("form.requestSubmit(); form.requestSubmit()")  # Enter, twice
    visit.wait_for("done")
    assert len([url for url in visit.requests if url.endswith("/v1/images/edits")]) == 1
    assert visit.page.input_value("#guidance_scale") == "9.5"
    assert "7 steps" in visit.text("facts")
    visit.page.locator("#request > summary").click()
    assert '-H "Authorization: Bearer $RAYEDIT_API_KEY"' in visit.text("snippet")
    assert "sesame" not in visit.page.content()
    visit.page.locator("#edit").click()
    visit.page.wait_for_selector("#strip li:nth-child(2)", state="attached")
    visit.page.locator("#edit").click()
    visit.page.wait_for_selector("#error-general:not(:empty)")
    assert re.fullmatch(
        r"The server is busy\. It asks to try again in (2\d|30) s\.", visit.text("error-general")
    )
