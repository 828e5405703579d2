"""The judge tells which edit was made, from a picture before and after it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.quality.judge import JudgeNetwork, PocketJudge, has_judge
from tests.conftest import POCKET, photograph
from training.kinds import KINDS
from training.pairs import NONE, planes
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
    shares = judge.shares(tensor(source).expand(len(TOLD), -1, -1, -1), tensor(*edited))
    assert [judge.kinds[k] for k in shares.argmax(dim=1)] == list(TOLD)
    assert shares.sum(dim=1) == pytest.approx(torch.ones(len(TOLD)), abs=1e-5)
    none = judge.shares(tensor(source, source), tensor(source, other))
    assert none.argmax(dim=1).tolist() == [NONE, NONE]
    assert judge.shares(scaled, tensor(source)).argmax(dim=1).tolist() == [NONE]


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
    together = judge.shares(sources, edited)
    alone = torch.cat([judge.shares(sources[i : i + 1], edited[i : i + 1]) for i in range(3)])
    assert together.shape == (3, 3)
    assert torch.allclose(together, alone, atol=1e-6)
    assert not torch.allclose(together, judge.shares(edited, sources), atol=1e-6)
