"""pocket's judge: whether a result is the edit that its instruction asks for, in any language."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.bench_auto_guidance import STARTS, edited
from engine import EditActor, EditOptions, EditRequest, EditResult, EngineConfig
from engine.adapter import Adapter
from engine.errors import ModelError
from engine.loading import load_model
from engine.models import Judging
from engine.models.known_edits import KnownEdits
from engine.quality.judge import PocketJudge
from engine.registry import find_model
from tests.conftest import POCKET as FOLDER
from tests.conftest import photograph
from training.kinds import KINDS
from training.photographs import square

POCKET = find_model("pocket")
COFFEE = square(photograph("coffee"), 128)


def true_edit(kind: str) -> np.ndarray:
    changed = KINDS[kind].apply(COFFEE.astype(np.float32) / 255)
    return np.round(np.clip(changed, 0, 1) * 255).astype(np.uint8)


def asked(text: str, **options: object) -> EditRequest:
    given = EditOptions.parse({"auto_guidance": "on", **options})
    return EditRequest(text, COFFEE, text, POCKET.resolve(given, seed=3))


@pytest.fixture(scope="module")
def judge() -> Judging:
    editor = load_model(POCKET, EngineConfig(num_threads=1, device="cpu")).editor
    assert isinstance(editor, Judging)
    return editor


@pytest.fixture(scope="module")
def actor() -> Iterator[EditActor]:
    with EditActor(EngineConfig(num_threads=1, device="cpu", max_batch_size=8), POCKET) as actor:
        yield actor


def of(judge: Judging, text: str, *kinds: str) -> Sequence[float] | None:
    return judge.following(asked(text), [true_edit(kind) for kind in kinds])


@pytest.mark.parametrize("text", ["make it night", "变成夜晚"])
def test_the_edit_that_was_asked_for_is_told_from_others_in_both_languages(
    judge: Judging, text: str
) -> None:
    night, fog, negative = of(judge, text, "night", "fog", "negative") or ()
    assert night > 0.6 and max(fog, negative) < 0.1


def test_a_source_that_was_left_as_it_is_follows_nothing(judge: Judging) -> None:
    for text in ("make it night", "add fog", "turn it into a pencil sketch"):
        (unchanged,) = judge.following(asked(text), [COFFEE]) or ()
        assert unchanged < 0.2


@pytest.mark.parametrize(
    "text", ["turn the vase red", "sepia, then blur it", "变成夜晚并加白色边框"]
)
def test_of_an_edit_that_it_does_not_know_or_of_two_at_once_it_says_nothing(
    judge: Judging, text: str
) -> None:
    assert of(judge, text, "night") is None


def test_of_a_part_and_of_a_lora_it_says_nothing(judge: Judging) -> None:
    request = asked("make it night")
    lora = Adapter("ink", "", "")
    night = [true_edit("night")]
    assert judge.following(replace(request, mask=np.full((128, 128), 255, np.uint8)), night) is None
    assert judge.following(replace(request, adapter=lora), night) is None
    assert judge.following(request, night) is not None


def test_a_judge_of_other_edits_is_refused() -> None:
    judge = PocketJudge.load(FOLDER)
    judge.kinds = judge.kinds[1:]
    with pytest.raises(ModelError, match="44 edits, and not 45"):
        KnownEdits([{"english": kind} for kind in KINDS], {}, judge)


@pytest.mark.slow
def test_from_scales_that_are_far_too_weak_it_finds_what_its_own_scales_find(
    actor: EditActor,
) -> None:
    """The promise of benchmarks.bench_auto_guidance on a few of its requests."""
    right = {
        (start, way): sum(
            is_right
            for kind in [*list(KINDS)[::9], *list(KINDS)[1::9]]
            for is_right, _ in edited(actor, kind, 1, STARTS[start], way)
        )
        for start, way in (("own", "off"), ("weak", "off"), ("weak", "on"))
    }
    assert right["weak", "on"] >= 0.9 * right["own", "off"]
    assert right["weak", "off"] < 0.9 * right["own", "off"]


def test_without_anything_wrong_there_is_one_try_and_nothing_to_warn_of(actor: EditActor) -> None:
    (outcome,) = actor.edit_batch([asked("make it night")])
    assert isinstance(outcome, EditResult) and outcome.guided is not None
    assert (outcome.guided.tries, outcome.warnings) == (1, ())
    assert outcome.guided.following is not None and outcome.guided.following > 0.6
