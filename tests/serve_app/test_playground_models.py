"""The playground before several models: each with its own sliders, options and defaults."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from engine.catalogue import FLUX_KONTEXT
from engine.spec import ModelSpec
from serve_app.config import ServeConfig
from serve_app.ingress.api import make_app
from serve_app.ingress.models import ServedModel
from serve_app.ingress.service import EditService
from serve_app.schemas import ModelStatus
from tests.serve_app.browser import Open, chromium, open_page
from tests.serve_app.local import Negative, Recorded, over_http, recorded

__all__ = ["chromium", "open_page", "recorded"]

pytestmark = pytest.mark.slow  # a browser of its own


@pytest.fixture
def several(pocket: ModelSpec) -> Iterator[Recorded]:
    """pocket, FLUX.1 Kontext that is asleep, and one that cannot be loaded."""
    specs = {"pocket": pocket, "kontext": FLUX_KONTEXT, "broken": pocket}
    config = ServeConfig.of({"decode_workers": 1, "models": {name: {} for name in specs}})
    served = [ServedModel(name, spec, Negative()) for name, spec in specs.items()]
    service = EditService(config, served)

    async def statuses() -> dict[str, ModelStatus]:
        return {"pocket": "ready", "kontext": "idle", "broken": "failed"}

    service.statuses = statuses
    found = Recorded(make_app(service))
    with over_http(found) as found.url:
        yield found
    service.close()


def test_a_model_is_chosen_and_brings_its_own_sliders_options_and_defaults(
    open_page: Open, several: Recorded, photographs: dict[str, bytes], pocket: ModelSpec
) -> None:
    steps = str(pocket.defaults["num_inference_steps"])
    visit = open_page(several.url)
    page = visit.page
    names = page.locator("#choice option").all_inner_texts()
    assert names == ["pocket", "kontext (loads with the first edit)", "broken (cannot be loaded)"]
    assert page.locator("#choice option").nth(2).is_disabled()
    page.locator("#more > summary").click()
    expect(page.locator("#image_guidance_scale")).to_be_visible()
    expect(page.locator("#true_cfg_scale")).to_be_hidden()
    assert page.input_value("#num_inference_steps") == steps
    page.fill("#guidance_scale", "5")
    page.select_option("#choice", "kontext")
    expect(page.locator("#image_guidance_scale")).to_be_hidden()
    for name in ("true_cfg_scale", "strength"):
        expect(page.locator(f"#{name}")).to_be_visible()
    assert page.input_value("#num_inference_steps") == "28"
    assert page.input_value("#guidance_scale") == "5"  # the reader's own
    assert (page.input_value("#size"), page.input_value("#strength")) == ("1024", "1")
    page.select_option("#size", "512")
    page.fill("#strength", "0.5")
    visit.choose("coffee.jpg", photographs["coffee"])
    visit.edit("make it night")
    sent = several.forms[-1]
    assert (sent["model"], sent["strength"], sent["guidance_scale"]) == ("kontext", "0.5", "5")
    assert "true_cfg_scale" not in sent and sent["size"] == "512x336"
    assert "-F model=kontext" in (page.locator("#snippet").text_content() or "")
    page.select_option("#choice", "pocket")
    assert page.input_value("#num_inference_steps") == steps


def test_a_model_alone_is_not_to_be_chosen(open_page: Open, recorded: Recorded) -> None:
    visit = open_page(recorded.url)
    assert visit.page.locator("#choice").is_hidden()
    assert visit.text("model") == "pocket"
