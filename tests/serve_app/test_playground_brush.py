"""The playground's brush: what is painted over the photograph is the mask that is sent."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.conftest import jpeg, photograph
from tests.serve_app.browser import PHONE, Open, Visit, chromium, open_page
from tests.serve_app.conftest import pixels_of
from tests.serve_app.local import Recorded, recorded

__all__ = ["chromium", "open_page", "recorded"]

COFFEE = photograph("coffee")  # (400, 600, 3)


@pytest.fixture
def brushing(open_page: Open, recorded: Recorded) -> Visit:
    """The page with the coffee, its reader about to paint."""
    visit = open_page(recorded.url)
    begin_to_paint(visit)
    return visit


def begin_to_paint(visit: Visit) -> None:
    visit.choose("coffee.jpg", jpeg(COFFEE))
    visit.wait_for("ready")
    visit.page.locator("#paint").click()
    visit.wait_for("painting")


def touch(visit: Visit, *points: tuple[float, float], end: str = "touchEnd") -> None:
    """Paint along these points with a finger."""
    session = visit.page.context.new_cdp_session(visit.page)
    for kind, point in zip(["touchStart", *["touchMove"] * 9], points, strict=False):
        x, y = visit.on_page(*point)
        event = {"type": kind, "touchPoints": [{"x": x, "y": y}]}
        session.send("Input.dispatchTouchEvent", event)
    session.send("Input.dispatchTouchEvent", {"type": end, "touchPoints": []})


def mask_of(form: dict[str, str | bytes]) -> np.ndarray:
    """The alpha of a mask as it was sent, (H, W) uint8."""
    data = form["mask"]
    assert isinstance(data, bytes)
    assert data[24:26] == bytes([8, 6])  # 8 bits, RGBA
    return np.asarray(Image.open(io.BytesIO(data)))[..., 3]


def painted(visit: Visit) -> int:
    """How many px of the tint on the page are painted."""
    return visit.page.evaluate(
        """() => { const mask = document.getElementById("mask");
        const copy = new OffscreenCanvas(mask.width, mask.height).getContext("2d");
        copy.drawImage(mask, 0, 0);
        const { data } = copy.getImageData(0, 0, mask.width, mask.height);
        return data.filter((value, k) => k % 4 === 3 && value).length }"""
    )


def test_a_stroke_of_the_mouse_is_a_mask_and_the_rest_stays_byte_for_byte(
    brushing: Visit, recorded: Recorded
) -> None:
    brushing.paint((0.25, 0.5), (0.75, 0.5))
    brushing.edit("make it night")
    alpha = mask_of(recorded.forms[-1])
    assert alpha.shape == (400, 600)
    assert (alpha[185:215, 150:450] == 0).all()
    assert (alpha[:170] == 255).all() and (alpha[230:] == 255).all()
    assert (alpha[:, :125] == 255).all() and (alpha[:, 475:] == 255).all()
    result, source = pixels_of(brushing.shown()), pixels_of(jpeg(COFFEE))
    assert (result[alpha == 255] == source[alpha == 255]).all()
    assert (result[alpha == 0] != source[alpha == 0]).any(axis=-1).mean() > 0.9


def test_a_finger_paints_at_phone_width_and_a_dot_is_a_stroke(
    open_page: Open, recorded: Recorded
) -> None:
    visit = open_page(recorded.url, viewport=PHONE, has_touch=True, is_mobile=True)
    begin_to_paint(visit)
    touch(visit, (0.3, 0.3), (0.5, 0.3), (0.7, 0.3))
    touch(visit, (0.5, 0.8))
    visit.edit("make it night")
    alpha = mask_of(recorded.forms[-1])
    assert alpha.shape == (400, 600)
    assert (alpha[110:130, 190:410] == 0).all() and (alpha[312:328, 292:308] == 0).all()
    assert (alpha[150:290] == 255).all() and (alpha[350:] == 255).all()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_what_a_second_finger_interrupts_is_not_painted(
    open_page: Open, recorded: Recorded
) -> None:
    visit = open_page(recorded.url, viewport=PHONE, has_touch=True)
    begin_to_paint(visit)
    touch(visit, (0.3, 0.3), (0.5, 0.3), end="touchCancel")
    assert (painted(visit), visit.page.locator("#undo").is_disabled()) == (0, True)


def test_undo_takes_the_last_stroke_and_clear_all_of_them(
    brushing: Visit, recorded: Recorded
) -> None:
    for y in (0.2, 0.5, 0.8):
        brushing.paint((0.3, y), (0.6, y))
    three = painted(brushing)
    brushing.page.locator("#undo").press("Enter")
    assert 0.6 * three < painted(brushing) < 0.7 * three
    brushing.page.locator("#clear").press("Enter")
    assert (painted(brushing), brushing.focused) == (0, "brush")
    assert brushing.page.locator("#undo").is_disabled()
    brushing.edit("make it night")
    assert "mask" not in recorded.forms[-1]


def test_the_brush_is_as_thick_as_was_asked_for(brushing: Visit, recorded: Recorded) -> None:
    brushing.page.locator("#brush").press("End")  # 40% of the shorter side, of 400 px
    brushing.paint((0.5, 0.5))
    brushing.edit("make it night")
    rows = np.flatnonzero((mask_of(recorded.forms[-1]) == 0).any(axis=1))
    assert abs(len(rows) - 160) < 3


def test_a_painting_stays_with_its_photograph_and_goes_with_it(
    brushing: Visit, recorded: Recorded
) -> None:
    page = brushing.page
    brushing.paint((0.3, 0.3), (0.6, 0.6))
    page.locator("#paint").click()
    brushing.wait_for("ready")
    assert brushing.text("paint") == "Painted area"
    assert painted(brushing)
    brushing.edit("make it night")
    page.locator("#paint").click()  # over the photograph again, with what is painted
    brushing.wait_for("painting")
    assert painted(brushing)
    page.keyboard.press("Escape")
    brushing.wait_for("done")
    page.locator("#edit").click()
    page.wait_for_selector("#strip li:nth-child(2)", state="attached")
    assert recorded.forms[0]["mask"] == recorded.forms[1]["mask"]
    page.locator("#further").click()
    brushing.wait_for("ready")
    assert (brushing.text("paint"), painted(brushing)) == ("Paint area", 0)
    brushing.edit("make it night")
    assert "mask" not in recorded.forms[2]


def test_a_painted_photograph_that_was_turned_has_a_mask_that_stands_upright(
    open_page: Open, recorded: Recorded
) -> None:
    visit = open_page(recorded.url)
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter turn clockwise
    Image.fromarray(COFFEE).save(turned, "JPEG", exif=exif)
    visit.choose("turned.jpg", turned.getvalue())
    visit.wait_for("ready")
    visit.page.locator("#paint").click()
    visit.paint((0.4, 0.2))
    visit.edit("make it night")
    alpha = mask_of(recorded.forms[-1])
    assert alpha.shape == (600, 400) and alpha[120, 160] == 0


def test_a_mask_that_keeps_nothing_is_refused_beside_the_brush(
    open_page: Open, recorded: Recorded
) -> None:
    visit = open_page(recorded.url, locale="zh-CN", expected=("status of 400",))
    begin_to_paint(visit)
    visit.page.locator("#brush").press("End")
    for y in range(0, 11, 2):
        visit.paint((0, y / 10), (1, y / 10))
    visit.page.fill("#prompt", "改成夜景")
    visit.page.locator("#edit").click()
    visit.page.wait_for_selector("#error-mask:not(:empty)")
    assert "涂满" in visit.text("error-mask")
    assert visit.focused == "paint"
    visit.page.locator("#paint").click()
    visit.page.locator("#undo").click()
    assert visit.text("error-mask") == ""


def test_the_line_between_before_and_after_does_not_move_while_painting(brushing: Visit) -> None:
    brushing.edit("make it night")
    brushing.page.locator("#paint").click()
    brushing.paint((0.2, 0.5), (0.8, 0.5))
    assert painted(brushing)
    brushing.page.locator("#paint").click()
    brushing.wait_for("done")
    assert brushing.page.input_value("#split") == "50"


def test_a_large_photograph_comes_back_at_its_own_size_and_so_goes_its_mask(
    open_page: Open, recorded: Recorded
) -> None:
    visit = open_page(recorded.url)
    visit.choose("large.jpg", jpeg(np.kron(COFFEE, np.ones((6, 6, 1), np.uint8))))
    visit.wait_for("ready")
    visit.page.locator("#paint").click()
    visit.paint((0.5, 0.5))
    visit.edit("make it night")
    alpha = mask_of(recorded.forms[-1])
    assert alpha.shape == (2400, 3600)  # more px than the tint on the page has
    assert alpha[1200, 1800] == 0 and alpha[1200, 2000] == 255
    assert Image.open(io.BytesIO(visit.shown())).size == (3600, 2400)


def test_the_request_to_copy_names_the_mask_which_can_be_saved(
    brushing: Visit, recorded: Recorded
) -> None:
    page = brushing.page
    page.locator("#request > summary").click()
    assert page.locator("#save-mask").is_hidden() and "mask" not in brushing.text("snippet")
    brushing.paint((0.3, 0.3), (0.6, 0.6))
    assert '-F mask=@"mask.png"' in brushing.text("snippet")
    with page.expect_download() as download:
        page.locator("#save-mask").click()
    assert download.value.suggested_filename == "mask.png"
    saved = download.value.path().read_bytes()
    page.locator("#tab-python").click()
    assert 'mask=open("mask.png", "rb"),' in brushing.text("snippet")
    brushing.edit("make it night")
    assert recorded.forms[-1]["mask"] == saved
