"""A style is written out into an edit: below what the edit says, above the model's defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.built_in_styles import BUILT_IN
from engine.errors import InstructionEmpty, OptionError, OptionInvalid, OptionUnknown
from engine.options import EditOptions
from engine.registry import find_model
from engine.spec import ModelSpec
from engine.styles import Styles, load_styles

POCKET, KLEIN = find_model("pocket"), find_model("flux2-klein")
SHOP = """\
line:
  template: "turn it into a pencil sketch"
  seed: 42
  options: {guidance_scale: 4.0, resize: crop, num_inference_steps: 9}
soft:
  template: "{instruction}, in soft light"
  negative_prompt: "grain"
kontext:
  model: flux-kontext
"""


@pytest.fixture
def shop(tmp_path: Path) -> Styles:
    path = tmp_path / "styles.yaml"
    path.write_text(SHOP)
    return load_styles(path)


def test_what_an_edit_says_outranks_its_style_and_that_the_model(shop: Styles) -> None:
    text, options = shop.apply("", EditOptions(style="line", guidance_scale=2.0), POCKET)
    resolved = POCKET.resolve(options, seed=1)
    assert text == "turn it into a pencil sketch"
    assert (resolved.guidance_scale, resolved.image_guidance_scale) == (2.0, 1.3)
    assert (resolved.seed, resolved.num_inference_steps, resolved.style) == (42, 9, "line")
    given = EditOptions.parse({"style": "line", "seed": 7, "resize": "fit"})
    _, options = shop.apply("", given, POCKET)
    assert (options.seed, options.resize) == (7, "fit")  # a default that is given is said too


def test_an_edit_without_a_style_stays_as_it_is(shop: Styles) -> None:
    options = EditOptions(seed=3)
    assert shop.apply(" add fog", options, POCKET) == (" add fog", options)


def test_a_template_takes_the_instruction_as_text_and_never_as_a_template(shop: Styles) -> None:
    own = "add {instruction} and {0}\u202e"
    text, _ = shop.apply(own, EditOptions(style="soft"), POCKET)
    assert text == "add {instruction} and {0}, in soft light"


@pytest.mark.parametrize(
    ("name", "text", "spec", "kind", "says"),
    [
        ("lines", "", POCKET, OptionUnknown, 'unknown style "lines". Did you mean "line"?'),
        ("x", "", POCKET, OptionUnknown, "Known: kontext, line, soft."),
        (5, "", POCKET, OptionInvalid, "style: must be a valid string; got 5"),
        ("kontext", "a", POCKET, OptionInvalid, "of model flux-kontext, and this is pocket"),
        ("line", "", KLEIN, OptionInvalid, "style line: model flux2-klein has no guidance_scale"),
        ("line", "add fog", POCKET, OptionInvalid, "style line is the whole instruction"),
        ("soft", " \u200b", POCKET, InstructionEmpty, "style soft needs an instruction"),
    ],
)
def test_a_style_that_cannot_be_honoured_is_refused_by_name(
    shop: Styles, name: object, text: str, spec: ModelSpec, kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind) as caught:
        shop.expand(name, text, spec)
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no style"),
        ("- sketch\n", "must hold keys and values"),
        ("sketch: [\n", "cannot read"),
        ("sketch: make it so\n", "style sketch: must be keys and values"),
        ("1: {seed: 1}\n", "a style's name is up to 64 letters"),
        ("a b: {seed: 1}\n", "got 'a b'"),
        ("a: {tempalte: x}\n", 'style a: unknown field "tempalte". Did you mean "template"?'),
        ("a: {lora: x.safetensors}\n", "style a: lora: a LoRA is of one model"),
        ("a: {template: ''}\n", "style a: template: "),
        ("a: {template: 'as {prompt}'}\n", "{prompt} stands for nothing; {instruction} is all"),
        ("a: {seed: -1}\n", "style a: seed: "),
        ("a: {options: {steps: 9}}\n", 'unknown field "options.steps"'),
        ("a: {options: {guidance_scale: 99}}\n", "options.guidance_scale: must be less"),
        ("a: {options: {seed: 1}}\n", "seed is not one of a style's options: give it beside"),
        ("a: {options: {style: b}}\n", "style is not one of a style's options"),
    ],
)
def test_a_file_of_styles_that_is_wrong_says_where(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "styles.yaml"
    path.write_text(text)
    with pytest.raises(OptionError) as caught:
        load_styles(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_of_styles_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionInvalid, match=r"cannot read .*none\.yaml"):
        load_styles(tmp_path / "none.yaml")


def test_every_built_in_style_is_of_a_model_that_can_do_it() -> None:
    for name, style in BUILT_IN.by_name.items():
        spec = find_model(style.model or "pocket")
        assert BUILT_IN.find(name, spec) is style
        assert style.seed is not None and style.description
    assert {"sketch", "product"} <= set(BUILT_IN.of_model(POCKET))
    assert "anime" not in BUILT_IN.of_model(POCKET)
