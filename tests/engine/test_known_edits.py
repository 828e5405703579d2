"""pocket says where it does not know the edit that is asked for, and what it did instead."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine import EditActor, EditOptions
from engine.catalogue import INSTRUCT_PIX2PIX
from engine.edit import EditFailure, EditOutcome, EditResult
from engine.errors import ModelError, OptionInvalid
from engine.registry import find_model
from engine.sources import Prepared
from engine.weights import LOCK, judge_revision, verify_weights
from tests.conftest import POCKET

EditOf = Callable[..., Prepared]
NEAREST = "black and white except red"  # to the request for a red vase
UNKNOWN = {"turn the vase red": NEAREST, "把花瓶变成红色": "整张图变成红色"}


@pytest.fixture(scope="module")
def outcome_of(edit_of: EditOf, strict_actor: EditActor) -> Callable[..., EditOutcome]:
    def edit(instruction: str, **options: object) -> EditOutcome:
        request = edit_of("coffee", instruction, num_inference_steps=1, **options).request
        return strict_actor.edit_batch([request])[0]

    return edit


@pytest.mark.parametrize(("instruction", "nearest"), UNKNOWN.items())
def test_an_edit_that_is_not_known_is_warned_of_and_what_is_made_is_named(
    outcome_of: Callable[..., EditOutcome], instruction: str, nearest: str
) -> None:
    result = outcome_of(instruction)
    assert isinstance(result, EditResult)
    assert (result.warnings, result.understood_as) == (("instruction_unknown",), nearest)


def test_with_strict_instruction_it_is_refused_and_the_nearest_is_named(
    outcome_of: Callable[..., EditOutcome],
) -> None:
    refused = outcome_of("turn the vase red", strict_instruction=True)
    assert isinstance(refused, EditFailure)
    assert (refused.code, refused.status, refused.param) == (
        "instruction_unknown",
        400,
        "instruction",
    )
    assert f'the nearest it knows is "{NEAREST}"' in refused.message


@pytest.mark.parametrize("instruction", ["make it night", "变成夜晚", "sepia, then blur it"])
def test_a_known_edit_goes_without_a_word_strict_or_not(
    outcome_of: Callable[..., EditOutcome], instruction: str
) -> None:
    for strict in (False, True):
        result = outcome_of(instruction, strict_instruction=strict)
        assert isinstance(result, EditResult)
        assert (result.warnings, result.understood_as) == ((), None)


def test_a_model_that_cannot_tell_refuses_to_be_strict_about_it() -> None:
    with pytest.raises(OptionInvalid, match="has no strict_instruction"):
        INSTRUCT_PIX2PIX.resolve(EditOptions(strict_instruction=False), seed=0)


def test_a_folder_says_itself_what_its_model_knows(
    tmp_path: Path, tiny: Callable[[str], Path]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(POCKET, copy, ignore=shutil.ignore_patterns("*.safetensors"))
    assert find_model(str(copy)).options == find_model("pocket").options
    assert not find_model(str(tiny("instruct-pix2pix"))).has("strict_instruction")


@pytest.mark.parametrize("part", ["known_edits", "judge"])
def test_what_a_model_says_of_itself_is_checked_and_leaves_its_pictures_their_name(
    tmp_path: Path, part: str
) -> None:
    (tmp_path / "unet.safetensors").write_bytes(b"weights")
    before = verify_weights(tmp_path)
    said = tmp_path / part / "model.safetensors"
    said.parent.mkdir()
    said.write_bytes(b"head")
    verify_weights.cache_clear()
    assert verify_weights(tmp_path) == before
    (tmp_path / LOCK).write_text(json.dumps({f"{part}/model.safetensors": "0"}))
    verify_weights.cache_clear()
    with pytest.raises(ModelError, match="is damaged"):
        verify_weights(tmp_path)
    spec = replace(INSTRUCT_PIX2PIX, source=str(tmp_path))
    judge = judge_revision(spec)
    said.write_bytes(b"another")
    assert judge and judge_revision(spec) not in (judge, None)
    assert judge_revision(INSTRUCT_PIX2PIX) is None
    knowing = INSTRUCT_PIX2PIX.options | {"strict_instruction"}
    assert replace(INSTRUCT_PIX2PIX, options=knowing).identity() == INSTRUCT_PIX2PIX.identity()
