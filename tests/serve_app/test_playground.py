"""The page at `/`, in a real browser against the real server."""

from __future__ import annotations

import base64
import io
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from serve_app.playground import FOLDER, read_assets
from tests.serve_app.browser import DONE_TIMEOUT_MS, Visit, chromium, open_page, visit
from tests.serve_app.conftest import becomes_idle, files_of, in_flight, post_form
from tests.serving import ROOT, Server, eventually

__all__ = ["chromium", "open_page", "visit"]


def test_the_page_and_its_files_are_asked_for_again_and_mostly_unchanged(
    http: httpx.Client,
) -> None:
    for path in ["/", *(f"/playground/{name}" for name in read_assets(1))]:
        first = http.get(path)
        assert (first.status_code, first.headers["cache-control"]) == (200, "no-cache")
        assert "default-src 'none'" in first.headers["content-security-policy"]
        assert http.head(path).headers["etag"] == first.headers["etag"]
        again = http.get(path, headers={"if-none-match": f'W/"x", {first.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b""), path


@pytest.mark.parametrize("name", ["nothing.js", "__init__.py", "../api.py", "%2e%2e/api.py", ""])
def test_nothing_but_the_pages_own_files_is_served(http: httpx.Client, name: str) -> None:
    response = http.get(f"/playground/{name}")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "route_not_found")


def test_the_api_is_documented_without_anything_from_elsewhere(
    chromium: Browser, server: Server
) -> None:
    page, asked = chromium.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{server.url}/docs")
    page.wait_for_selector("text=Edit Image")
    assert len(asked) > 3 and all(url.startswith((server.url, "data:")) for url in asked)
    page.close()


@pytest.mark.slow  # what the form sends is checked without a server; this is the whole of it
def test_swaggers_form_edits_a_file_that_is_chosen(
    chromium: Browser, server: Server, http: httpx.Client, photographs: dict[str, bytes]
) -> None:
    page = chromium.new_page()
    page.goto(f"{server.url}/docs")
    edit = page.locator("[id*=edit_image]")
    edit.locator("button.opblock-summary-control").click()
    edit.get_by_role("button", name="Try it out").click()
    file = {"name": "coffee.jpg", "mimeType": "image/jpeg", "buffer": photographs["coffee"]}
    row = "tr[data-property-name={}] input"
    edit.locator(row.format("image") + "[type=file]").set_input_files([file])  # type: ignore[list-item]
    edit.locator(row.format("num_inference_steps") + "[type=text]").fill("4")
    with page.expect_response("**/v1/images/edits") as answered:
        edit.get_by_role("button", name="Execute").click()
    status = edit.locator(".live-responses-table tbody .response-col_status")
    expect(status).to_contain_text("200", timeout=DONE_TIMEOUT_MS)
    (made,) = answered.value.json()["data"]
    assert edit.locator(".live-responses-table .microlight").first.inner_text()[:1] == "{"
    page.close()
    options = {"seed": made["seed"], "num_inference_steps": 4}
    (file_again,) = files_of(post_form(http, photographs["coffee"], **options))
    assert base64.b64decode(made["b64_json"]) == file_again
    assert Image.open(io.BytesIO(file_again)).size == (600, 400)


def test_every_file_of_the_page_is_packaged() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = settings["package-data"]["serve_app.playground"]
    packaged = {path.relative_to(FOLDER).as_posix() for p in patterns for path in FOLDER.glob(p)}
    assert set(read_assets(1)) <= packaged
    assert len(read_assets(1)) > 15


def test_a_photograph_is_edited_with_previews_and_the_api_gives_the_same_bytes(
    visit: Visit, http: httpx.Client, photographs: dict[str, bytes]
) -> None:
    visit.quick(steps=6)
    visit.choose("coffee.jpg", photographs["coffee"])
    visit.wait_for("ready")
    said = visit.page.evaluate_handle(
        """() => { const said = []; const node = document.getElementById("status");
        new MutationObserver(() => said.push(node.textContent)).observe(node, {childList: true});
        return said }"""
    )
    visit.edit("make it night")
    assert [text for text in said.json_value() if "Preview" in text] == [
        f"Preview {k} of 3…" for k in (1, 2, 3)
    ]
    words = said.json_value()
    assert words[-1].startswith("Done in ")
    assert words.index("The edit is being made…") == words.index("Sending the photograph…") + 1
    seed = visit.text("seed-used").removeprefix("seed ")
    file = visit.shown()
    assert Image.open(io.BytesIO(file)).size == (600, 400)
    assert "600 × 400 px · 6 steps" in visit.text("facts")
    options = {"seed": seed, "num_inference_steps": 6}
    assert files_of(post_form(http, photographs["coffee"], **options)) == [file]


def test_the_seed_of_an_edit_can_be_used_again(visit: Visit, photographs: dict[str, bytes]) -> None:
    visit.quick()
    visit.choose("coffee.jpg", photographs["coffee"])
    visit.edit("make it night")
    first = visit.shown()
    visit.page.locator("#reuse").click()
    visit.page.locator("#edit").click()
    visit.page.wait_for_selector("#strip li:nth-child(2)", state="attached")
    assert visit.shown() == first


@pytest.mark.parametrize("tab", ["curl", "python"])
def test_the_request_to_copy_gives_the_picture_that_is_shown(
    visit: Visit, photographs: dict[str, bytes], tmp_path: Path, tab: str
) -> None:
    """With a mask, an instruction and a file name that a shell, curl and Python could misread."""
    name = 'it\'s "my" photo; 1.jpg'
    (tmp_path / name).write_bytes(photographs["coffee"])
    visit.quick()
    visit.page.select_option("#restore_size", "false")
    visit.page.select_option("#resize", "pad")
    visit.page.locator("#guidance_scale").press("ArrowRight")
    visit.page.fill("#seed", "007")
    visit.choose(name, photographs["coffee"])
    visit.page.locator("#paint").click()
    visit.paint((0.3, 0.3), (0.6, 0.6))
    visit.edit('@it\'s "night" $HOME\\ 夜景')
    visit.page.locator("#request > summary").click()
    visit.page.locator(f"#tab-{tab}").click()
    with visit.page.expect_download() as download:
        visit.page.locator("#save-mask").click()
    download.value.save_as(tmp_path / download.value.suggested_filename)
    code = visit.text("snippet")
    assert "3.1" in code and "seed" in code
    program = (shutil.which("sh") or "sh") if tab == "curl" else sys.executable
    done = run(program, code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "edited.png").read_bytes() == visit.shown()
    if tab == "curl":
        (tmp_path / "edited.png").unlink()
        assert run(program, code.replace("guidance_scale", "guidance_sale"), tmp_path).returncode
        assert not (tmp_path / "edited.png").exists()
        assert "option_unknown" in (tmp_path / "answer.json").read_text()


def run(program: str, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [program, "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("key", ["Escape", "Enter"])  # anywhere; on the button
def test_a_cancelled_edit_ends_on_the_server_too(
    visit: Visit, http: httpx.Client, photographs: dict[str, bytes], key: str
) -> None:
    visit.quick(steps=100)
    visit.page.select_option("#size", "256")
    visit.choose("coffee.jpg", photographs["coffee"])
    visit.page.fill("#prompt", "make it night")
    visit.page.locator("#edit").press("Enter")
    visit.wait_for("running")
    assert visit.focused == "cancel"
    assert eventually(lambda: in_flight(http) == 1)
    visit.page.keyboard.press(key)
    visit.wait_for("ready")
    assert (visit.text("status"), visit.focused) == ("Cancelled", "edit")
    assert becomes_idle(http)


def test_the_line_between_before_and_after_follows_the_pointer(
    visit: Visit, photographs: dict[str, bytes]
) -> None:
    visit.quick()
    visit.choose("coffee.jpg", photographs["coffee"])
    visit.edit("make it night")
    frame = visit.page.locator("#frame").bounding_box()
    assert frame is not None
    middle = frame["y"] + frame["height"] / 2
    visit.page.mouse.move(frame["x"] + frame["width"] * 0.5, middle)
    visit.page.mouse.down()
    visit.page.mouse.move(frame["x"] + frame["width"] * 0.8, middle)
    visit.page.mouse.up()
    visit.page.mouse.move(frame["x"] + frame["width"] * 0.3, middle)
    assert visit.page.input_value("#split") == "80"
