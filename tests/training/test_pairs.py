"""What the judge learns from: each pair with the share of every answer that is right."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data

from training.crops import Colours, CropSampler
from training.kinds import KINDS
from training.made import answer_of
from training.measures import SOURCE, true_edits
from training.pairs import NAMES, NONE, PairSampler, rows_of
from training.photographs import square


@pytest.fixture(scope="module")
def chelsea() -> Colours:
    return square(skimage.data.chelsea(), 96).astype(np.float32) / 255


@pytest.fixture
def sampler() -> PairSampler:
    return PairSampler(CropSampler([skimage.data.chelsea(), skimage.data.coffee()], seed=0), 0)


def test_a_batch_holds_pictures_of_one_size_and_answers_that_add_up(sampler: PairSampler) -> None:
    batches = [sampler.draw(12) for _ in range(12)]
    for batch in batches:
        assert batch.sources.shape == batch.edited.shape
        assert len(batch.answers) == 12
        assert batch.edited.min() >= 0
        assert batch.edited.max() <= 1
        np.testing.assert_allclose(batch.answers.sum(dim=1), 1, atol=1e-6)
    rows = np.concatenate([batch.answers for batch in batches])
    assert 0.1 < (rows[:, NONE] == 1).mean() < 0.5
    assert len(set(rows[:, :NONE].argmax(axis=1))) > 20
    assert len({tuple(batch.sources.shape) for batch in batches}) > 2


def test_of_two_edits_each_has_half(sampler: PairSampler, chelsea: Colours) -> None:
    answers = [sampler.two(chelsea)[0] for _ in range(20)]
    assert {tuple(answer.values()) for answer in answers} == {(0.5, 0.5), (1.0,)}


def test_a_part_of_an_edit_counts_in_part(sampler: PairSampler, chelsea: Colours) -> None:
    rows = rows_of([sampler.part(chelsea)[0] for _ in range(30)])
    assert (rows[:, NONE] == 1).any()
    assert (rows[:, NONE] == 0).any()
    np.testing.assert_allclose(rows.sum(dim=1), 1, atol=1e-6)


def test_a_result_counts_for_the_true_edit_that_it_is_nearest_to(chelsea: Colours) -> None:
    truths = true_edits(chelsea)
    results = [truths["night"], truths["sepia"], truths[SOURCE]]
    results.append((truths["frame_white"] + truths[SOURCE]) / 2)
    kinds = ["night", "night", "night", "frame_white"]
    rows = rows_of([answer_of(r, k, truths) for r, k in zip(results, kinds, strict=True)])
    assert rows[0, NAMES.index("night")] == 1
    assert rows[1, NAMES.index("sepia")] == 1
    assert rows[2, NONE] == 1
    assert rows[3, NAMES.index("frame_white")] == pytest.approx(0.5, abs=0.1)


def test_the_answers_are_in_the_order_of_the_kinds() -> None:
    assert tuple(KINDS) == NAMES
