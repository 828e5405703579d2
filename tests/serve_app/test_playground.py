"""The page at `/`, in a real browser against the real server."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import httpx
import pytest
from PIL import Image

from serve_app.playground import FOLDER, read_assets
from tests.serve_app.browser import PHONE, Open, Visit, chromium, open_page
from tests.serve_app.conftest import files_of, post_form
from tests.serving import ROOT, Server

__all__ = ["chromium", "open_page"]

NO_IMAGE = "is not a photograph this page can read"


@pytest.fixture
def visit(open_page: Open, server: Server) -> Visit:
    return open_page(server.url)


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
    assert said.json_value()[-1].startswith("Done in ")
    seed = visit.text("seed-used").removeprefix("seed ")
    file = visit.shown()
    assert Image.open(io.BytesIO(file)).size == (64, 48)
    assert "64 × 48 px · 6 steps" in visit.text("facts")
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
    """With an instruction and a file name that a shell, curl and Python could misread."""
    name = 'it\'s "my" photo; 1.jpg'
    (tmp_path / name).write_bytes(photographs["coffee"])
    visit.quick()
    visit.page.select_option("#resize", "pad")
    visit.page.locator("#guidance_scale").press("ArrowRight")
    visit.choose(name, photographs["coffee"])
    visit.edit('@it\'s "night" $HOME\\ 夜景')
    visit.page.locator("#request > summary").click()
    visit.page.locator(f"#tab-{tab}").click()
    code = visit.text("snippet")
    assert "3.1" in code and "seed" in code
    program = [shutil.which("sh") or "sh"] if tab == "curl" else [sys.executable]
    done = subprocess.run(
        [*program, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "edited.png").read_bytes() == visit.shown()


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


def test_a_file_over_the_servers_limit_is_refused_before_it_is_sent(
    visit: Visit, photographs: dict[str, bytes]
) -> None:
    before = len(visit.requests)
    visit.choose("huge.jpg", photographs["coffee"] + bytes(25 * 2**20))
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


def test_a_number_out_of_bounds_is_refused_in_its_field(visit: Visit) -> None:
    visit.page.locator("#examples button").first.click()
    visit.wait_for("ready")
    visit.quick(steps=101)
    visit.page.fill("#prompt", "make it night")
    visit.page.locator("#edit").click()
    assert visit.text("error-num_inference_steps") == "Steps: a whole number from 1 to 100."
    assert visit.focused == "num_inference_steps"


def test_a_chinese_reader_gets_chinese_and_the_switch_is_remembered(
    open_page: Open, server: Server, photographs: dict[str, bytes]
) -> None:
    visit = open_page(server.url, locale="zh-CN")
    assert visit.page.get_attribute("html", "lang") == "zh-Hans"
    visit.choose("notes.txt", b"text")
    visit.page.wait_for_selector("#error-image:not(:empty)")
    assert visit.text("error-image").startswith("“notes.txt”不是能识别的照片")
    visit.quick()
    visit.choose("coffee.jpg", photographs["coffee"])
    visit.page.locator("#chips button").first.click()
    visit.page.locator("#edit").click()
    visit.wait_for("done")
    assert visit.text("title") == "改成夜景"
    assert visit.text("status").startswith("修好了")
    visit.page.locator("#language").click()
    assert (visit.text("edit"), visit.text("status")[:4]) == ("Edit photograph", "Done")
    visit.page.reload()
    assert visit.text("edit") == "Edit photograph"


def tab_to(visit: Visit, selector: str) -> None:
    """Press Tab until the focus is there."""
    for _ in range(40):
        if visit.page.locator(selector).evaluate("node => node === document.activeElement"):
            return
        visit.page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not lead to {selector}")


def test_an_edit_needs_no_pointer(visit: Visit) -> None:
    keyboard = visit.page.keyboard
    visit.quick()
    visit.page.evaluate("document.activeElement.blur()")
    tab_to(visit, "#examples li:nth-child(2) button")
    keyboard.press("Enter")
    visit.wait_for("ready")
    visit.page.wait_for_selector("#prompt:focus")
    keyboard.type("add fog")
    keyboard.press("Enter")
    visit.wait_for("done")
    keyboard.press("Shift+Tab")  # back into the stage
    for _ in range(6):
        if visit.focused == "split":
            break
        keyboard.press("Shift+Tab")
    keyboard.press("Home")
    keyboard.press("ArrowRight")
    split = visit.page.locator("#split")
    assert split.get_attribute("aria-valuetext") == "99% of the picture shows the edit"
    assert visit.page.evaluate(
        "getComputedStyle(document.getElementById('after')).clipPath"
    ).endswith("1%)")


def test_a_cancelled_edit_ends_on_the_server_too(
    visit: Visit, http: httpx.Client, photographs: dict[str, bytes]
) -> None:
    visit.quick(steps=100)
    visit.page.select_option("#size", "256")
    visit.choose("coffee.jpg", photographs["coffee"])
    visit.page.fill("#prompt", "make it night")
    visit.page.locator("#edit").press("Enter")
    visit.wait_for("running")
    assert visit.focused == "cancel"
    while not http.get("/readyz").json()["in_flight"]:
        time.sleep(0.05)
    visit.page.keyboard.press("Escape")
    visit.wait_for("ready")
    assert (visit.text("status"), visit.focused) == ("Cancelled", "edit")
    deadline = time.monotonic() + 3
    while http.get("/readyz").json()["in_flight"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert http.get("/readyz").json()["in_flight"] == 0


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


def test_a_phone_never_scrolls_sideways(
    open_page: Open, server: Server, photographs: dict[str, bytes]
) -> None:
    for locale in ("en-US", "zh-CN"):
        visit = open_page(server.url, viewport=PHONE, locale=locale, has_touch=True)
        assert widest(visit) <= PHONE["width"]
        visit.quick()
        visit.page.locator("#request > summary").click()
        visit.choose(f"{'long-name' * 8}.jpg", photographs["coffee"])
        visit.wait_for("ready")
        assert widest(visit) <= PHONE["width"]
        visit.edit("an-instruction-" * 12)
        assert widest(visit) <= PHONE["width"]


def widest(visit: Visit) -> int:
    """Px from the left edge to the right end of the page's content."""
    return int(visit.page.evaluate("document.documentElement.scrollWidth"))


# Of every visible text: (contrast with the nearest opaque background, the text).
CONTRASTS = """() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, k) => sum + c * [0.2126, 0.7152, 0.0722][k], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const [r, g, b, a = 1] = parse(getComputedStyle(at).backgroundColor);
      if (a === 1) return [r, g, b];
    }
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !node.checkVisibility() || node.closest("noscript, .frame")) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.textContent]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_background(
    open_page: Open, server: Server, scheme: str, photographs: dict[str, bytes]
) -> None:
    """WCAG AA: 4.5 : 1."""
    visit = open_page(server.url, color_scheme=scheme)
    visit.quick(steps=0)
    visit.page.locator("#request > summary").click()
    visit.choose("notes.txt", b"text")
    visit.page.wait_for_selector("#error-image:not(:empty)")
    texts = visit.page.evaluate(CONTRASTS)
    visit.choose("coffee.jpg", photographs["coffee"])
    visit.page.locator("#edit").click()
    texts += visit.page.evaluate(CONTRASTS)
    assert len(texts) > 60
    assert [pair for pair in texts if pair[0] < 4.5] == []


NAMELESS = """() => [...document.querySelectorAll("button, a, input, select, textarea, summary")]
  .filter((node) => !(node.labels?.length || node.getAttribute("aria-label")
    || node.textContent.trim() || node.querySelector("img[alt]:not([alt=''])")))
  .map((node) => node.outerHTML)"""


def test_every_control_has_a_name_for_a_screen_reader(visit: Visit) -> None:
    assert visit.page.evaluate(NAMELESS) == []
    assert visit.page.locator("#status[role=status]").count() == 1
    assert visit.page.locator(".error[role=alert]").count() == visit.page.locator(".error").count()


def test_nothing_moves_for_a_reader_who_asked_for_stillness(
    open_page: Open, server: Server, photographs: dict[str, bytes]
) -> None:
    visit = open_page(server.url, reduced_motion="reduce")
    visit.quick()
    visit.choose("coffee.jpg", photographs["coffee"])
    visit.edit("make it night")
    assert visit.page.evaluate("document.getAnimations().length") == 0
