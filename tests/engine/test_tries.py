"""An edit whose guidance sets itself: judged, tried again beside its mates, the best one taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine import EditActor, EditOptions, EditRequest, EditResult, EngineConfig
from engine.catalogue import MODELS, POCKET
from engine.config import load_config
from engine.edit import EditFailure, Guided
from engine.errors import OptionInvalid
from engine.models import Conditioning
from engine.recipe import read_command
from engine.results import finished_images
from engine.spec import ModelSpec
from engine.tries import Tries
from tests.batch_jobs.editors import DryEditor, plain
from tests.conftest import Prepare

OWN = (3.0, 1.3)


class JudgedEditor(DryEditor):
    """Finds an edit the better the nearer its guidance is to the number that its text names."""

    def encode(self, requests: Sequence[EditRequest]) -> list[Conditioning]:
        if any(r.instruction == "fail above 3" and self._text(r) > 3 for r in requests):
            raise RuntimeError("injected fault")
        return super().encode(requests)

    def following(
        self, request: EditRequest, images: Sequence[np.ndarray]
    ) -> Sequence[float] | None:
        if request.instruction == "fail in following":
            raise RuntimeError("injected fault")
        if not request.instruction.startswith("best at "):
            return None if request.instruction == "unknown" else [0.1] * len(images)
        best = float(request.instruction.removeprefix("best at "))
        return [max(1 - abs(self._text(request) - best), 0.0)] * len(images)

    @staticmethod
    def _text(request: EditRequest) -> float:
        return request.options.scale("guidance_scale")


@pytest.fixture(scope="module")
def judged(pocket: ModelSpec) -> ModelSpec:
    return replace(plain(pocket), editor="tests.engine.test_tries:JudgedEditor")


@pytest.fixture(scope="module")
def actor(judged: ModelSpec) -> Iterator[EditActor]:
    with EditActor(EngineConfig(num_threads=1, max_batch_size=4), judged) as actor:
        yield actor


def asked(spec: ModelSpec, text: str, *, id: str = "", **options: object) -> EditRequest:
    given = EditOptions.parse({"auto_guidance": "on", "num_inference_steps": 4, **options})
    pixels = np.zeros((64, 64, 3), np.uint8)
    return EditRequest(id or text, pixels, text, spec.resolve(given, seed=7))


def guided(outcome: object) -> Guided:
    assert isinstance(outcome, EditResult), outcome
    assert outcome.guided is not None
    return outcome.guided


def scales(outcome: object) -> tuple[int, float, float]:
    found = guided(outcome)
    return found.tries, found.guidance_scale, found.image_guidance_scale


def test_an_edit_that_lost_its_source_is_made_again_and_its_scales_alone_give_the_same_picture(
    edit_of: Prepare, strict_actor: EditActor
) -> None:
    few = {"seed": 11, "num_inference_steps": 3}
    lost = {"guidance_scale": 20.0, "image_guidance_scale": 0.0, **few}
    edit = edit_of("coffee", "add fog", id="a", auto_guidance="on", **lost)
    other = edit_of("coffee", "add fog", id="c", **lost)
    made, off = strict_actor.edit_batch([edit.request, other.request])
    tries, text, image = scales(made)
    assert tries > 1 and text < 20 and image > 0
    chosen = {"guidance_scale": text, "image_guidance_scale": image}
    bare = edit_of("coffee", "add fog", id="b", **few, **chosen)
    (again,) = strict_actor.edit_batch([bare.request])
    assert isinstance(made, EditResult)
    assert isinstance(again, EditResult) and isinstance(off, EditResult)
    assert np.array_equal(made.images[0], again.images[0])
    assert not np.array_equal(made.images[0], off.images[0])
    assert again.guided is None and again.warnings == ()
    (finished,) = finished_images(made, edit.finishing)
    (plainly,) = finished_images(again, bare.finishing)
    assert finished.command == plainly.command and read_command(finished.command)
    assert finished.image.tobytes() == plainly.image.tobytes()
    assert finished.report is not None and finished.report.guided == made.guided


def test_the_best_of_three_tries_is_taken_and_one_that_is_right_ends_them(
    actor: EditActor, judged: ModelSpec
) -> None:
    right, second, third, none = actor.edit_batch(
        [
            asked(judged, "best at 3.1"),
            asked(judged, "best at 3.0", guidance_scale=8.0, image_guidance_scale=1.0),
            asked(judged, "best at 4.4"),
            asked(judged, "best at 9"),
        ]
    )
    assert scales(right) == (1, *OWN)
    assert scales(second) == (2, *OWN)
    assert scales(third) == (3, 3.8, 0.96)  # 3.0 and 3.4 are too far from it
    assert guided(third).following == pytest.approx(0.4)
    assert scales(none) == (3, *OWN)  # all of them as bad: the first
    for outcome in (right, second, third, none):
        assert isinstance(outcome, EditResult)
        assert "following_unmeasured" not in outcome.warnings


def test_what_no_judge_can_tell_is_said(actor: EditActor, judged: ModelSpec) -> None:
    (outcome,) = actor.edit_batch([asked(judged, "unknown")])
    assert isinstance(outcome, EditResult) and guided(outcome).following is None
    assert outcome.warnings == ("following_unmeasured",)


def test_the_images_of_an_edit_are_judged_together_and_have_one_pair_of_scales(
    actor: EditActor, judged: ModelSpec
) -> None:
    (outcome,) = actor.edit_batch([asked(judged, "best at 4.4", num_images=3)])
    assert isinstance(outcome, EditResult) and len(outcome.images) == 3
    assert len(set(outcome.seeds)) == 3 and scales(outcome) == (3, 3.8, 0.96)


def test_a_try_joins_the_batch_and_its_mates_do_not_wait_for_it(
    actor: EditActor, judged: ModelSpec
) -> None:
    order: list[str] = []
    _, mate, late = requests = [
        asked(judged, "best at 9", id="tried", num_inference_steps=20),
        asked(judged, "mate", auto_guidance="off", num_inference_steps=20),
        asked(judged, "late", auto_guidance="off", num_inference_steps=30),
    ]
    before = actor.counters.steps
    futures = actor.submit(requests)
    for request, future in zip(requests, futures, strict=True):
        future.add_done_callback(lambda _, id=request.id: order.append(id))
    outcomes = [future.result(30) for future in futures]
    assert order == ["mate", "late", "tried"]
    assert scales(outcomes[0])[0] == 3
    assert actor.counters.steps - before == 60  # it is not held up either
    for request, outcome in zip((mate, late), outcomes[1:], strict=True):
        assert isinstance(outcome, EditResult) and outcome.id == request.id
        assert outcome.guided is None and outcome.batch_size > 1


def test_a_try_that_fails_leaves_what_was_made_before_it(
    actor: EditActor, judged: ModelSpec
) -> None:
    late, faulty = asked(judged, "fail above 3"), asked(judged, "fail in following")
    kept, failed = actor.edit_batch([late, faulty])
    assert scales(kept) == (1, *OWN)
    assert isinstance(failed, EditFailure) and failed.code == "internal_error"


@pytest.mark.parametrize(("took_s", "tries"), [(20.0, 2), (40.0, 1)])
def test_another_try_has_what_is_left_of_the_time_and_none_is_begun_that_would_not_be_done(
    judged: ModelSpec, took_s: float, tries: int
) -> None:
    now = [100.0]
    request = replace(asked(judged, "best at 9"), timeout_s=60.0, partial_images=2)
    pixels = np.full((64, 64, 3), 99, np.uint8)
    made = EditResult(request.id, [pixels], [7], reconstructed=request.pixels)
    under_way = Tries(JudgedEditor(judged, {}), clock=lambda: now[0])
    under_way.begin(request)
    now[0] += took_s
    again = under_way.settle(made)
    if tries == 2:
        assert isinstance(again, EditRequest)
        assert (again.timeout_s, again.partial_images) == (60.0 - took_s, 0)
        now[0] += took_s
        again = under_way.settle(made)
    assert scales(again) == (tries, *OWN)
    assert under_way.settle(made) is made  # nothing of it is left


def test_an_edit_can_be_cancelled_between_its_tries(actor: EditActor, judged: ModelSpec) -> None:
    (future,) = actor.submit([asked(judged, "best at 9", num_inference_steps=100)])
    actor.cancel("best at 9")
    outcome = future.result(30)
    assert isinstance(outcome, EditFailure) and outcome.code == "cancelled"
    (again,) = actor.edit_batch([asked(judged, "best at 9")])  # nothing of it is left
    assert scales(again)[0] == 3


def test_a_model_without_both_scales_refuses_it_by_name() -> None:
    given = EditOptions.parse({"auto_guidance": "on"})
    for spec in MODELS.values():
        if spec.guidance == "two_scale":
            assert spec.resolve(given, 0).auto_guidance == "on"
            continue
        with pytest.raises(OptionInvalid, match=f"model {spec.name} has no auto_guidance"):
            spec.resolve(given, 0)


def test_a_model_is_the_same_one_where_it_is_off_and_an_operator_may_have_it_on(
    tmp_path: Path,
) -> None:
    assert "auto_guidance" not in POCKET.identity()["options"]
    config = tmp_path / "engine.yaml"
    config.write_text("engine: {options: {auto_guidance: on}}\n")
    spec = load_config(config, EngineConfig, "engine").find_model()
    assert spec.resolve(EditOptions(), 0).auto_guidance == "on"
    assert spec.identity() != POCKET.identity()
