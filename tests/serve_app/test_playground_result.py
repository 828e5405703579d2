"""What the playground asks for beside the instruction, and what it says of the result."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from PIL import Image
from playwright.sync_api import expect

from engine.spec import ModelSpec
from serve_app.config import ServeConfig
from serve_app.ingress.api import make_app
from tests.conftest import jpeg, photograph
from tests.serve_app.browser import Open, Visit, chromium, open_page
from tests.serve_app.conftest import service_of
from tests.serve_app.local import Negative, Recorded, over_http, recorded

__all__ = ["chromium", "open_page", "recorded"]

COFFEE = jpeg(photograph("coffee"))  # 600 x 400 px, of which 3 : 2 is no canvas


def opened(open_page: Open, recorded: Recorded) -> Visit:
    """The page with the coffee, everything unfolded."""
    visit = open_page(recorded.url)
    visit.page.locator("#more > summary").click()
    visit.choose("coffee.jpg", COFFEE)
    visit.wait_for("ready")
    return visit


def size_of(visit: Visit) -> tuple[int, int]:
    return Image.open(io.BytesIO(visit.shown())).size


def test_a_photograph_comes_back_at_its_own_size_unless_the_models_picture_is_asked_for(
    open_page: Open, recorded: Recorded
) -> None:
    visit = opened(open_page, recorded)
    visit.edit("make it night")
    assert size_of(visit) == (600, 400)
    own = recorded.forms[-1]
    assert (own["restore_size"], own["detail"], own["size"]) == ("true", "source", "128x80")
    visit.page.select_option("#restore_size", "false")
    visit.page.locator("#edit").click()
    visit.page.wait_for_selector("#strip li:nth-child(2)", state="attached")
    models = recorded.forms[-1]
    assert (models["restore_size"], models["detail"], models["size"]) == (
        "false",
        "model",
        "128x80",
    )
    assert size_of(visit) == (128, 80)
    assert "128 × 80 px" in visit.text("facts") and "changed" not in visit.text("facts")


def test_a_whole_photograph_has_no_framing(open_page: Open, recorded: Recorded) -> None:
    visit = opened(open_page, recorded)
    assert visit.page.locator("#framing").is_hidden()
    visit.page.select_option("#restore_size", "false")
    visit.page.select_option("#resize", "crop")
    visit.edit("make it night")
    assert (recorded.forms[-1]["resize"], size_of(visit)) == ("crop", (128, 128))
    visit.page.select_option("#restore_size", "true")
    visit.page.locator("#edit").click()
    visit.page.wait_for_selector("#strip li:nth-child(2)", state="attached")
    assert "resize" not in recorded.forms[-1]
    assert size_of(visit) == (600, 400)


def test_the_rest_is_kept_where_it_is_asked_for_and_a_change_of_everything_is_told(
    open_page: Open, recorded: Recorded
) -> None:
    visit = opened(open_page, recorded)
    visit.edit("make it night")
    assert "preserve" not in recorded.forms[-1]
    assert visit.text("facts").endswith(" · 100%\u00a0changed")
    assert visit.page.locator("#remark").is_hidden()
    visit.page.locator("#preserve").press("Space")
    visit.page.locator("#request > summary").click()
    assert "-F preserve=auto" in visit.text("snippet")
    visit.page.locator("#edit").click()
    visit.page.wait_for_selector("#strip li:nth-child(2)", state="attached")
    assert recorded.forms[-1]["preserve"] == "auto"
    assert visit.text("remark").startswith("Nearly everything changed")
    visit.page.locator("#language").click()
    assert visit.text("remark").startswith("几乎整个画面都变了")


def test_guidance_sets_itself_where_that_is_asked_for_and_what_it_chose_is_told(
    open_page: Open, recorded: Recorded
) -> None:
    visit = opened(open_page, recorded)
    visit.page.select_option("#auto_guidance", "fast")
    visit.page.locator("#request > summary").click()
    assert "-F auto_guidance=fast" in visit.text("snippet")
    visit.page.select_option("#auto_guidance", "on")
    assert "-F auto_guidance=on" in visit.text("snippet")
    visit.edit("make it night")
    assert recorded.forms[-1]["auto_guidance"] == "on"
    assert visit.text("facts").endswith(" · tries 2 · 3.4 / 1.13")
    visit.page.locator("#language").click()
    assert visit.text("facts").endswith(" · 试了 2 次：3.4 / 1.13")


def test_a_style_is_sent_by_name_and_may_stand_for_the_instruction(
    open_page: Open, recorded: Recorded
) -> None:
    visit = opened(open_page, recorded)
    visit.page.fill("#prompt", "make it night")
    visit.page.select_option("#style", "sketch")
    assert visit.page.locator("#prompt").is_disabled()
    assert visit.page.locator("#chips").is_hidden()
    said = [visit.text("hint-style")]
    for _ in range(2):
        visit.page.locator("#language").click()
        said.append(visit.text("hint-style"))
    described = "a pencil drawing on white paper"
    assert said == [described, "白纸上的铅笔画", described]
    visit.page.locator("#edit").click()
    visit.wait_for("done")
    form = recorded.forms[-1]
    assert (form["style"], form["prompt"]) == ("sketch", "")
    assert visit.text("title") == "turn it into a pencil sketch"
    assert '"style": "sketch"' in _snippet(visit) and 'prompt=""' in _snippet(visit)
    visit.page.select_option("#style", "product")
    assert visit.page.input_value("#prompt") == "make it night"
    visit.page.locator("#edit").click()
    visit.page.wait_for_selector("#strip li:nth-child(2)", state="attached")
    form = recorded.forms[-1]
    assert (form["style"], form["prompt"], "preserve" in form) == (
        "product",
        "make it night",
        False,
    )


@pytest.mark.slow
def test_what_a_style_sets_is_what_the_page_shows_and_does_not_send(
    open_page: Open, recorded: Recorded
) -> None:
    visit = opened(open_page, recorded)
    page = visit.page
    page.fill("#image_guidance_scale", "2")
    page.select_option("#style", "product")
    assert page.locator("#preserve").is_checked()
    page.select_option("#style", "film")
    assert not page.locator("#preserve").is_checked()
    assert page.input_value("#guidance_scale") == "1"
    assert visit.text("standard-guidance_scale").strip() == "The style’s is 1.0."
    visit.edit("make it night")
    form = recorded.forms[-1]
    assert (form["style"], form["image_guidance_scale"]) == ("film", "2")
    assert not {"guidance_scale", "preserve"} & form.keys()
    page.locator("#reset-image_guidance_scale").click()
    page.fill("#guidance_scale", "3")  # the model's own: under the style it has to be said
    assert (page.input_value("#image_guidance_scale"), _sent(visit)) == ("1", "guidance_scale=3")


def _sent(visit: Visit) -> str:
    """The scales of the command that the page shows."""
    visit.page.locator("#request > summary").click()
    return " ".join(re.findall(r"\w*guidance_scale=\S+", visit.text("snippet")))


def _snippet(visit: Visit) -> str:
    if not visit.page.locator("#snippet").is_visible():
        visit.page.locator("#request > summary").click()
        visit.page.locator("#tab-python").click()
    return visit.text("snippet")


@pytest.mark.slow
def test_sampler_negative_prompt_and_number_of_images_are_sent_and_each_image_can_be_looked_at(
    open_page: Open, recorded: Recorded
) -> None:
    visit = opened(open_page, recorded)
    visit.page.select_option("#scheduler", "dpmpp_2m")
    visit.page.fill("#negative_prompt", "people")
    visit.page.fill("#n", "3")
    visit.page.fill("#seed", "7")
    visit.edit("make it night")
    form = recorded.forms[-1]
    sent = (form["scheduler"], form["negative_prompt"], form["n"], form["seed"])
    assert sent == ("dpmpp_2m", "people", "3", "7")
    images = visit.page.locator("#strip button")
    expect(images).to_have_count(3)
    for number, seed in enumerate((7, 8, 9)):
        images.nth(number).click()
        assert visit.text("seed-used") == f"seed {seed}"
        assert visit.page.get_attribute("#download", "download").endswith(f"-{number + 1}.png")
    visit.page.fill("#n", "11")
    visit.page.locator("#edit").click()
    assert "from 1 to 10" in visit.text("error-n") and len(recorded.forms) == 1


@pytest.mark.slow
def test_photographs_that_are_chosen_together_are_edited_one_after_the_other(
    open_page: Open, recorded: Recorded
) -> None:
    visit = open_page(recorded.url)
    cat = jpeg(photograph("chelsea"))
    files = [("coffee.jpg", COFFEE), ("cat.jpg", cat)]
    chosen = [{"name": n, "mimeType": "image/jpeg", "buffer": data} for n, data in files]
    visit.page.set_input_files("#file", chosen)  # type: ignore[arg-type]
    expect(visit.page.locator("#status")).to_contain_text("2 photographs are ready")
    visit.page.fill("#prompt", "make it night")
    visit.page.locator("#edit").click()
    expect(visit.page.locator("#status")).to_contain_text("Photograph 2 of 2: Done in")
    expect(visit.page.locator("#strip button")).to_have_count(2)
    assert [form["image"] for form in recorded.forms] == [COFFEE, cat]
    visit.page.locator("#strip button").nth(1).click()
    assert visit.page.get_attribute("#before", "alt") == "coffee.jpg"
    visit.page.locator("#edit").click()  # of the one that was picked alone
    expect(visit.page.locator("#strip button")).to_have_count(3)
    assert recorded.forms[-1]["image"] == COFFEE


@pytest.mark.slow
def test_what_a_model_does_not_have_is_not_offered_and_reset_is_its_default(
    open_page: Open, recorded: Recorded, pocket: ModelSpec
) -> None:
    visit = open_page(recorded.url)
    visit.page.fill("#guidance_scale", "12")
    visit.page.locator("#reset-guidance_scale").click()
    default = pocket.defaults["guidance_scale"]
    assert float(visit.page.input_value("#guidance_scale")) == default
    options = pocket.options - {"image_guidance_scale", "negative_prompt"}
    defaults = {name: value for name, value in pocket.defaults.items() if name in options}
    plain = replace(pocket, options=options, defaults={"num_inference_steps": 4, **defaults})
    service = service_of(ServeConfig(decode_workers=1), plain, Negative())
    with over_http(make_app(service)) as url:
        other = open_page(url)
        other.page.locator("#more > summary").click()
        for name in ("image_guidance_scale", "negative_prompt", "auto_guidance"):
            assert other.page.locator(f"#{name}").is_hidden(), name
        for name in ("guidance_scale", "scheduler"):
            assert other.page.locator(f"#{name}").is_visible(), name
        other.choose("coffee.jpg", COFFEE)
        other.wait_for("ready")
    service.close()
