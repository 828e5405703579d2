"""The scales of the next try: by the guide, in steps of a model's own scales."""

from __future__ import annotations

import numpy as np
import pytest

from engine.catalogue import INSTRUCT_PIX2PIX, POCKET
from engine.correction import Scales
from engine.options import EditOptions
from engine.quality.verdict import FOLLOWED_FAR, FOLLOWED_NEAR, Judged, Verdict
from tests.engine.test_measures import CHELSEA, COFFEE, true_edit

GUIDE, OWN = Scales.own(INSTRUCT_PIX2PIX), Scales.own(POCKET)


@pytest.mark.parametrize(
    ("scales", "verdict", "next_scales"),
    [
        (GUIDE, "weak", Scales(8.5, 1.3)),
        (Scales(8.5, 1.3), "weak", Scales(9.5, 1.1)),
        (GUIDE, "overdone", Scales(6.5, 1.8)),
        (GUIDE, "right", GUIDE),
        (Scales(2.0, 3.0), "weak", GUIDE),  # far off: back at once
        (Scales(15.0, 1.0), "overdone", GUIDE),
        (Scales(9.0, 0.1), "weak", Scales(10.0, 0.0)),  # no scale is beyond its bounds
        (Scales(19.5, 1.0), "weak", Scales(20.0, 0.8)),
    ],
)
def test_more_text_or_less_image_where_it_is_weak_and_the_reverse_where_it_is_overdone(
    scales: Scales, verdict: Verdict, next_scales: Scales
) -> None:
    assert scales.corrected(verdict, GUIDE) == next_scales


def test_the_steps_are_shares_of_the_models_own_scales() -> None:
    assert Scales(3.0, 1.3) == OWN
    assert OWN.corrected("weak", OWN) == Scales(3.4, 1.13)
    assert OWN.corrected("overdone", OWN) == Scales(2.6, 1.56)


def test_another_edit_than_was_asked_for_was_guided_too_strongly_or_too_weakly() -> None:
    assert Scales(8.0, 1.0).corrected("other", OWN) == OWN
    assert Scales(0.5, 2.5).corrected("other", OWN) == OWN
    assert OWN.corrected("other", OWN) == OWN.corrected("weak", OWN)


def test_the_scales_of_an_edit_are_those_that_it_is_made_with() -> None:
    options = POCKET.resolve(EditOptions(guidance_scale=8.0, seed=5), seed=0)
    assert Scales.of(options) == Scales(8.0, 1.3)
    assert Scales.of(OWN.on(options)) == OWN and OWN.on(options).seed == 5


def judged(*results: np.ndarray, following: tuple[float, ...] | None = None) -> Judged:
    return Judged.of(results, COFFEE, following)


def near(found: Judged) -> Verdict:
    return found.verdict(FOLLOWED_NEAR)


def test_measures_alone_tell_an_edit_of_nothing_and_a_source_that_is_gone() -> None:
    assert near(judged(COFFEE)) == "weak" and judged(COFFEE).score == 0
    assert near(judged(CHELSEA)) == "overdone"
    assert near(judged(np.full_like(COFFEE, 90))) == "overdone"
    night = judged(true_edit("night"))
    assert night.verdict(FOLLOWED_FAR) == "right" and night.following is None
    assert near(judged(COFFEE, true_edit("night"))) == "right"  # one of two is to be seen


def test_a_judge_overrules_the_measures_and_tells_another_edit() -> None:
    assert near(judged(CHELSEA, following=(0.9,))) == "right"
    assert near(judged(true_edit("night"), following=(0.1,))) == "other"
    assert near(judged(COFFEE, following=(0.1,))) == "weak"
    two = judged(true_edit("night"), true_edit("sepia"), following=(0.1, 0.2))
    assert two.following == pytest.approx(0.15) and near(two) == "other"


def test_a_judge_must_be_surer_of_what_was_made_far_from_the_models_own_scales() -> None:
    assert [Scales(*far).is_far(OWN) for far in ((8.0, 1.0), (0.5, 2.5))] == [True, True]
    assert [Scales(*one).is_far(OWN) for one in ((3.4, 1.13), (2.6, 1.56))] == [False, False]
    found = judged(true_edit("night"), following=(0.4,))
    assert (near(found), found.verdict(FOLLOWED_FAR)) == ("right", "other")


def test_the_score_rises_with_what_is_followed_and_with_what_is_kept() -> None:
    night, lost = true_edit("night"), CHELSEA
    assert judged(night, following=(0.9,)).score > judged(night, following=(0.4,)).score
    assert judged(night, following=(0.9,)).score > judged(lost, following=(0.9,)).score
