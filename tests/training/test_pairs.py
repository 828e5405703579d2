"""What the judge learns from: each pair with how far every answer is right."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data

from training.answers import NAMES, NONE, TrueEdits
from training.crops import Colours, CropSampler
from training.kinds import KINDS
from training.measures import SOURCE, nearest, true_edits
from training.pairs import PairSampler
from training.photographs import square


@pytest.fixture(scope="module")
def chelsea() -> Colours:
    return square(skimage.data.chelsea(), 96).astype(np.float32) / 255


@pytest.fixture
def sampler() -> PairSampler:
    return PairSampler(CropSampler([skimage.data.chelsea(), skimage.data.coffee()], seed=0), 0)


def test_a_batch_holds_pictures_of_one_size_and_an_answer_of_each_kind(
    sampler: PairSampler,
) -> None:
    batches = [sampler.draw(12) for _ in range(12)]
    for batch in batches:
        assert batch.sources.shape == batch.edited.shape
        assert batch.answers.shape == (12, len(KINDS) + 1)
        for values in (batch.edited, batch.answers):
            assert values.min() >= 0
            assert values.max() <= 1
    rows = np.concatenate([batch.answers for batch in batches])
    assert 0.1 < (rows[:, NONE] == 1).mean() < 0.5
    assert len(set(rows[:, :NONE].argmax(axis=1))) > 20
    assert len({tuple(batch.sources.shape) for batch in batches}) > 2


def test_of_two_edits_each_has_half(sampler: PairSampler, chelsea: Colours) -> None:
    said = [sampler.two(chelsea)[1] for _ in range(20)]
    rows = [row for row in said if row is not None]
    assert rows and all(row.sum() == 1 and row.max() == 0.5 for row in rows)


def test_a_result_is_the_edit_whose_true_one_it_is_nearest_to(chelsea: Colours) -> None:
    truths = true_edits(chelsea)
    results = [truths["night"], truths["sepia"], truths[SOURCE]]
    results.append((truths["frame_white"] + truths[SOURCE]) / 2)
    rows = TrueEdits(chelsea).answers(np.stack(results))
    assert rows[0, NAMES.index("night")] == 1
    assert rows[0].sum() == 1
    assert rows[1, NAMES.index("sepia")] == 1
    assert rows[2, NONE] == 1
    assert rows[3, NAMES.index("frame_white")] == pytest.approx(0.5, abs=0.1)


def test_it_is_what_was_asked_for_where_the_report_of_pocket_says_so(chelsea: Colours) -> None:
    truths, random = true_edits(chelsea), np.random.default_rng(0)
    for asked, made in random.choice(NAMES, (60, 2)):
        result = chelsea + (truths[made] - chelsea) * np.float32(random.uniform(0.4, 1))
        sure = TrueEdits(chelsea).answers(result[None])[0, NAMES.index(asked)]
        assert (sure > 0.5) == (nearest(result, asked, truths) == asked), (asked, made)


def test_two_edits_that_look_alike_there_are_both_what_happened() -> None:
    grey = np.repeat(square(skimage.data.chelsea(), 96).mean(-1, keepdims=True), 3, axis=-1)
    red = (grey / 255 * (1, 0.2, 0.2)).astype(np.float32)  # nothing is green or blue
    alike = [NAMES.index(name) for name in ("black_and_white", "keep_green", "keep_blue")]
    truths = TrueEdits(red)
    row = truths.answers(KINDS["black_and_white"].apply(red)[None])[0]
    assert row[alike].tolist() == [1, 1, 1]
    assert row[NONE] == 0


def test_the_answers_are_in_the_order_of_the_kinds() -> None:
    assert tuple(KINDS) == NAMES
