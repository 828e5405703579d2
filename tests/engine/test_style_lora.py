"""A style with a LoRA: the operator's file names it, a client names the style alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.adapter import Adapter
from engine.built_in_styles import BUILT_IN
from engine.catalogue import POCKET
from engine.config import EngineConfig
from engine.errors import AdapterUnusable, OptionError, OptionInvalid
from engine.options import EditOptions
from engine.spec import ModelSpec
from engine.wire import EditBody
from tests.conftest import Prepare
from tests.engine.test_adapter import GOOD
from tests.tiny import lora

SHOP = """\
warm: {model: pocket, lora: loras/warm.safetensors, options: {lora_scale: 0.5}}
cold: {model: pocket, lora: loras}
other: {model: flux2-klein, lora: nowhere.safetensors}
plain: {template: turn it into a pencil sketch}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A file of styles, and the LoRAs of pocket that it names from its own folder on."""
    lora.save(tmp_path / "loras" / "warm.safetensors", GOOD)
    halved = {name: tensor / 2 for name, tensor in GOOD.items()}
    lora.save(tmp_path / "loras" / "pytorch_lora_weights.safetensors", halved)
    path = tmp_path / "styles.yaml"
    path.write_text(SHOP)
    return path


@pytest.fixture
def spec(shop: Path) -> ModelSpec:
    return EngineConfig(styles=str(shop), resolution=64).find_model()


def test_a_model_knows_the_loras_of_its_own_styles(spec: ModelSpec, shop: Path) -> None:
    assert set(spec.styles) == {"warm", "cold"}  # not that of another model, which is not there
    assert spec.styles["warm"].path == str(shop.parent / "loras" / "warm.safetensors")
    assert spec.styles["warm"].sha256 != spec.styles["cold"].sha256
    assert spec.identity() == replace(spec, styles={}).identity()


def test_an_edit_in_a_style_carries_its_lora_at_the_scale_that_it_says(
    spec: ModelSpec, shop: Path, edit_of: Prepare
) -> None:
    styles = EngineConfig(styles=str(shop)).find_styles()

    def adapter_of(**given: object) -> tuple[Adapter | None, float | None]:
        _, options = styles.apply("add fog", EditOptions.parse(given), spec)
        own = options.model_dump(exclude_unset=True)
        request = edit_of("coffee", "add fog", spec=spec, **own).request
        return request.adapter, request.options.lora_scale

    assert adapter_of(style="warm") == (spec.styles["warm"], 0.5)
    assert adapter_of(style="warm", lora_scale=2.0) == (spec.styles["warm"], 2.0)
    assert adapter_of(style="cold") == (spec.styles["cold"], 1.0)
    assert adapter_of() == (None, None)


def test_a_scale_without_a_lora_is_refused_by_name(spec: ModelSpec, pocket: ModelSpec) -> None:
    def refusal(spec: ModelSpec, **given: object) -> str:
        with pytest.raises(OptionInvalid) as caught:
            spec.resolve(EditOptions.parse(given), seed=1)
        assert caught.value.param == "lora_scale"
        return caught.value.message

    assert refusal(spec, lora_scale=0.5, style="plain") == (
        "lora_scale 0.5 has no effect in style plain, which has no LoRA; model pocket has warm, "
        "cold"
    )
    assert refusal(replace(pocket, styles={}), lora_scale=0.5).endswith("model pocket has none")
    with pytest.raises(OptionError, match="lora_scale: must be less than or equal to 2"):
        EditOptions.parse({"lora_scale": 2.1})


@pytest.mark.parametrize("name", ["lora", "adapter", "lora_path"])
def test_a_client_can_name_no_file(name: str, shop: Path) -> None:
    path = str(shop.parent / "loras" / "warm.safetensors")
    with pytest.raises(OptionError, match=f'unknown field "{name}"'):
        EditBody.parse({"prompt": "add fog", name: path})
    styles = EngineConfig(styles=str(shop)).find_styles()
    with pytest.raises(OptionError, match="unknown style"):
        styles.find("warm.safetensors", EngineConfig(styles=str(shop)).find_model())


def test_what_is_wrong_with_a_lora_is_said_at_start(shop: Path) -> None:
    config = EngineConfig(styles=str(shop))
    text = shop.read_text()
    shop.write_text("warm: {lora: warm.safetensors}")
    with pytest.raises(OptionError, match="style warm: lora: a LoRA is of one model"):
        config.find_model()
    shop.write_text(text)
    (shop.parent / "loras" / "warm.safetensors").write_bytes(b"lora")
    with pytest.raises(AdapterUnusable, match=r"style warm: .* is damaged, or no safetensors"):
        config.find_model()
    lora.save(shop.parent / "loras" / "warm.safetensors", {"conv_in.weight": torch.ones(2)})
    with pytest.raises(AdapterUnusable, match=r"style warm: .* is no LoRA"):
        config.find_model()


def test_a_lora_of_a_registered_model_is_not_for_a_folder_that_has_its_name(tmp_path: Path) -> None:
    assert set(BUILT_IN.adapters(POCKET)) == {"film", "riso"}
    own = replace(POCKET, source=str(tmp_path / "pocket"))
    assert BUILT_IN.adapters(own) == {}
    assert "sketch" in BUILT_IN.of_model(own)
    with pytest.raises(OptionInvalid, match="film is of model pocket, and this is another of that"):
        BUILT_IN.find("film", own)
