"""The playground for every reader: Chinese, keyboard, phone, screen reader, low vision."""

from __future__ import annotations

import pytest

from engine.built_in_styles import BUILT_IN
from engine.error_codes import error_classes
from engine.errors import ImageError, InstructionError, MaskInvalid, TransientError
from serve_app import errors
from serve_app.errors import BodyTooLarge, BodyTooSlow, KeyInvalid
from tests.serve_app.browser import PHONE, Open, Visit, chromium, open_page, visit
from tests.serving import Server

__all__ = ["chromium", "open_page", "visit"]


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


def test_whatever_is_said_is_said_in_both_languages(visit: Visit) -> None:
    texts = visit.page.evaluate("async () => (await import('/playground/texts.js')).TEXTS")
    assert texts["en"].keys() == texts["zh"].keys()
    assert all(texts["zh"].values())
    styles = BUILT_IN.by_name.values()
    assert {style.description for style in styles} == texts["zh"]["styles"].keys()
    sent = (ImageError, MaskInvalid, InstructionError, BodyTooLarge, BodyTooSlow)
    readers = (*sent, TransientError, KeyInvalid)
    every = [*error_classes(), *error_classes(errors.__name__)]
    met = {error.code for error in every if issubclass(error, readers)}
    elsewhere = {
        "image_missing",
        "image_not_found",
        "image_source_refused",
        "cancelled",
        "cluster_unavailable",
        "previous_turn_failed",
    }
    assert met - elsewhere == texts["zh"]["errors"].keys()


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
    assert visit.page.locator("#split").is_hidden()  # there is nothing to compare yet
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
    visit.page.locator("#request > summary").click()
    assert visit.page.locator("[role=tablist] button:not([role=tab])").count() == 0
    assert visit.page.locator("#status[role=status]").count() == 1
    assert visit.page.locator(".error[role=alert]").count() == visit.page.locator(".error").count()


def test_nothing_moves_for_a_reader_who_asked_for_stillness(
    open_page: Open, server: Server, photographs: dict[str, bytes]
) -> None:
    visit = open_page(server.url, reduced_motion="reduce")
    visit.quick(steps=100)
    visit.choose("coffee.jpg", photographs["coffee"])
    visit.page.fill("#prompt", "make it night")
    visit.page.locator("#edit").click()
    visit.wait_for("running")
    assert visit.page.evaluate("document.getAnimations().length") == 0
