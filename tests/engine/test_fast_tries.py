"""`auto_guidance: fast`: one branch first, and all of them where the judge doubts the result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine import EditActor, EditRequest, EditResult
from engine.spec import ModelSpec
from engine.tries import Tries
from tests.conftest import Prepare
from tests.engine.test_tries import OWN, JudgedEditor, actor, asked, judged, scales

__all__ = ["actor", "judged"]

BARE = (1.0, 1.0)  # one branch


def test_fast_begins_with_one_branch_and_goes_on_as_it_was_asked_where_the_judge_doubts_it(
    actor: EditActor, judged: ModelSpec
) -> None:
    before = actor.counters.branches
    (right,) = actor.edit_batch([asked(judged, "best at 1.2", auto_guidance="fast")])
    assert scales(right) == (1, *BARE)
    assert actor.counters.branches - before == 4  # one in each step
    own, doubted, far, none, unknown = actor.edit_batch(
        [
            asked(judged, "best at 3.0", auto_guidance="fast"),
            asked(judged, "best at 1.3", auto_guidance="fast"),
            asked(
                judged,
                "best at 3",
                auto_guidance="fast",
                guidance_scale=8.0,
                image_guidance_scale=1.0,
            ),
            asked(judged, "best at 9", auto_guidance="fast"),
            asked(judged, "unknown", auto_guidance="fast"),
        ]
    )
    assert scales(own) == (2, *OWN)
    assert scales(doubted) == (3, *BARE)  # 0.7 is enough far from its own scales, and not for fast
    assert scales(far) == (3, *OWN)
    assert scales(none) == (3, *BARE)
    assert scales(unknown) == (1, *OWN)  # nobody could tell that one branch is enough


def test_the_scales_that_fast_chose_give_the_same_picture_alone(
    edit_of: Prepare, strict_actor: EditActor
) -> None:
    few = {"seed": 11, "num_inference_steps": 3}
    edit = edit_of("coffee", "make it night", id="a", auto_guidance="fast", **few)
    (made,) = strict_actor.edit_batch([edit.request])
    _, text, image = scales(made)
    chosen = {"guidance_scale": text, "image_guidance_scale": image}
    bare = edit_of("coffee", "make it night", id="b", **few, **chosen)
    (again,) = strict_actor.edit_batch([bare.request])
    assert isinstance(made, EditResult) and isinstance(again, EditResult)
    assert np.array_equal(made.images[0], again.images[0])


@pytest.mark.parametrize(("took_s", "tries"), [(14.0, 2), (16.0, 1)])
def test_after_one_branch_another_try_is_reckoned_by_all_that_it_has(
    judged: ModelSpec, took_s: float, tries: int
) -> None:
    now = [100.0]
    request = replace(asked(judged, "best at 9", auto_guidance="fast"), timeout_s=60.0)
    made = EditResult(request.id, [request.pixels], [7], reconstructed=request.pixels)
    under_way = Tries(JudgedEditor(judged, {}), clock=lambda: now[0])
    first = under_way.begin(request)
    assert first.options.guidance_scale == 1.0
    now[0] += took_s
    assert isinstance(under_way.settle(made), EditRequest) == (tries == 2)
