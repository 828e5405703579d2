"""The judge tells which edit was made, from a picture before and after it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.quality.judge import JudgeNetwork, PocketJudge, has_judge
from tests.conftest import POCKET, photograph
from training.answers import NONE
from training.kinds import KINDS
from training.measures import SOURCE, rivals, true_edits
from training.pairs import planes
from training.photographs import square

TOLD = ("night", "pencil_sketch", "tint_green", "frame_white", "blur", "sepia")


@pytest.fixture(scope="module")
def judge() -> PocketJudge:
    return PocketJudge.load(POCKET)


def picture(name: str, side_px: int = 128) -> np.ndarray:
    return square(photograph(name), side_px).astype(np.float32) / 255


def tensor(*pictures: np.ndarray) -> Tensor:
    return planes(np.stack(pictures))


@pytest.mark.parametrize("side_px", [128, 256])
def test_it_knows_the_edit_that_was_made_and_that_none_was(
    judge: PocketJudge, side_px: int
) -> None:
    source, other = picture("chelsea", side_px), picture("rocket", side_px)
    scaled = tensor(picture("chelsea"))
    edited = [KINDS[kind].apply(picture("chelsea")) for kind in TOLD]
    answers = judge.answers(tensor(source).expand(len(TOLD), -1, -1, -1), tensor(*edited))
    truths = true_edits(picture("chelsea"))
    for kind, row in zip(TOLD, answers, strict=True):
        apart = [judge.kinds.index(other) for other in rivals(kind, truths) if other != SOURCE]
        assert row[judge.kinds.index(kind)] > 0.5 > row[[*apart, NONE]].max(), kind
    none = judge.answers(tensor(source, source), tensor(source, other))
    assert none.argmax(dim=1).tolist() == [NONE, NONE]
    assert judge.answers(scaled, tensor(source)).argmax(dim=1).tolist() == [NONE]


def test_it_takes_two_edits_that_look_alike_there_for_both(judge: PocketJudge) -> None:
    source = picture("coffee")  # nothing on it is blue or green
    edited = KINDS["black_and_white"].apply(source)
    answers = judge.answers(tensor(source), tensor(edited))[0]
    alike = [judge.kinds.index(kind) for kind in ("black_and_white", "keep_blue", "keep_green")]
    assert answers[alike].min() > 0.5
    assert answers[judge.kinds.index("sepia")] < 0.5


def test_its_kinds_are_those_that_pocket_was_taught(judge: PocketJudge) -> None:
    assert judge.kinds == tuple(KINDS)
    assert has_judge(POCKET)
    assert not has_judge(POCKET.parent)


def test_its_weights_are_small() -> None:
    assert (POCKET / "judge" / "model.safetensors").stat().st_size <= 2_000_000


def test_a_picture_is_judged_alike_alone_and_among_others() -> None:
    torch.manual_seed(0)
    judge = PocketJudge(JudgeNetwork((8, 8, 8), 3).eval(), ("a", "b"), 32)
    sources, edited = torch.rand(3, 3, 40, 56), torch.rand(3, 3, 64, 32)
    together = judge.answers(sources, edited)
    alone = torch.cat([judge.answers(sources[i : i + 1], edited[i : i + 1]) for i in range(3)])
    assert together.shape == (3, 3)
    assert torch.allclose(together, alone, atol=1e-6)
    assert not torch.allclose(together, judge.answers(edited, sources), atol=1e-6)
