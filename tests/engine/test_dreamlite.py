"""DreamLite: what it and its mobile variant take, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.catalogue import DREAMLITE
from engine.errors import InstructionTooLong, OptionInvalid
from engine.options import EditOptions
from engine.registry import find_model
from tests.engine.families import FAMILIES, Twins, edits_of

BASE = next(family for family in FAMILIES if family.name == "dreamlite")


@pytest.mark.parametrize("option", ["guidance_scale", "image_guidance_scale", "negative_prompt"])
def test_the_mobile_variant_refuses_guidance_which_diffusers_ignores(
    option: str, tiny: Callable[[str], Path]
) -> None:
    given = EditOptions.parse({option: "blurry" if option == "negative_prompt" else 2.0})
    base, mobile = (find_model(str(tiny(name))) for name in ("dreamlite", "dreamlite-mobile"))
    assert getattr(base.resolve(given, seed=1), option) is not None
    with pytest.raises(OptionInvalid, match=f"has no {option}; it takes none of that kind"):
        mobile.resolve(given, seed=1)
    assert mobile.resolve(EditOptions(), seed=1).num_inference_steps == 4


def test_a_folder_is_not_looked_for_on_a_branch_of_the_hub(tiny: Callable[[str], Path]) -> None:
    assert DREAMLITE.revision == "diffusers"
    assert find_model(str(tiny("dreamlite"))).revision is None


def test_a_long_text_is_refused_and_a_script_is_told_of(tiny: Callable[[str], Path]) -> None:
    twins = Twins(BASE, tiny(BASE.name))
    request = twins.request(edits_of(BASE)[0])
    with pytest.raises(InstructionTooLong, match="instruction has 1025 tokens"):
        twins.editor.check(replace(request, instruction="x" * 1025))
    options = request.options.model_copy(update={"negative_prompt": "x" * 1025})
    with pytest.raises(InstructionTooLong, match="negative_prompt has 1025 tokens"):
        twins.editor.check(replace(request, options=options))
    assert twins.editor.check(replace(request, instruction="变成夜晚")) == []
    assert twins.editor.check(replace(request, instruction="ꮳꮃꭹ")) == ["language_unsupported"]
