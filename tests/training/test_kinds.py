"""The kinds of edit are distinct, in range, and local where they say so."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data

from training.crops import Colours, CropSampler
from training.further_kinds import FURTHER
from training.kinds import COMPOUNDS, KINDS
from training.measures import SOURCE, edge_correlation, nearest, psnr, shows, true_edits
from training.photographs import sampling_weights, square
from training.triplets import DROP_BOTH, DROP_IMAGE, DROP_TEXT, TripletSampler


@pytest.fixture(scope="module")
def astronaut() -> Colours:
    return square(skimage.data.astronaut(), 96).astype(np.float32) / 255.0


@pytest.fixture(scope="module")
def truths(astronaut: Colours) -> dict[str, Colours]:
    return true_edits(astronaut)


def test_there_are_twenty_kinds_and_three_that_are_local_or_compound() -> None:
    assert len(KINDS) >= 20
    assert sum(kind.local for kind in KINDS.values()) >= 3
    assert len(COMPOUNDS) >= 3


@pytest.mark.parametrize("name", list(KINDS))
def test_an_edit_keeps_shape_and_range_and_changes_the_picture(
    name: str, astronaut: Colours, truths: dict[str, Colours]
) -> None:
    edited = truths[name]
    assert edited.shape == astronaut.shape
    assert edited.dtype == np.float32
    assert edited.min() >= 0.0
    assert edited.max() <= 1.0
    assert psnr(edited, astronaut) < 45


def test_an_edit_does_not_write_into_its_source(astronaut: Colours) -> None:
    before = astronaut.copy()
    for kind in KINDS.values():
        kind.apply(astronaut)
    np.testing.assert_array_equal(before, astronaut)


def test_an_odd_size_is_edited_too() -> None:
    picture = np.random.default_rng(0).random((70, 53, 3), dtype=np.float32)
    for kind in KINDS.values():
        assert kind.apply(picture).shape == picture.shape


def test_a_frame_leaves_the_inside_alone(astronaut: Colours, truths: dict[str, Colours]) -> None:
    inside = (slice(20, -20), slice(20, -20))
    np.testing.assert_array_equal(truths["frame_white"][inside], astronaut[inside])
    assert truths["frame_white"][0].min() == 1.0


def test_the_sky_is_above(astronaut: Colours, truths: dict[str, Colours]) -> None:
    changed = np.abs(truths["sky_pink"] - astronaut).mean(axis=(1, 2))
    assert changed[:30].mean() > 10 * changed[70:].mean()


def test_keeping_red_leaves_no_other_colour(truths: dict[str, Colours]) -> None:
    kept = truths["keep_red"]
    spread = kept.max(axis=-1) - kept.min(axis=-1)
    assert (kept.argmax(axis=-1)[spread > 0.2] == 0).mean() > 0.98


def test_a_true_edit_is_nearest_to_itself(truths: dict[str, Colours]) -> None:
    seen = [name for name in KINDS if shows(name, truths)]
    assert len(seen) > 35
    for name in seen:
        assert nearest(truths[name], name, truths) == name
        assert nearest(truths[SOURCE], name, truths) != name


@pytest.mark.parametrize("name", list(FURTHER))
def test_a_further_kind_is_told_from_all_that_pocket_was_taught(
    name: str, astronaut: Colours
) -> None:
    truths = true_edits(astronaut, [name])
    assert truths[name].shape == astronaut.shape and truths[name].dtype == np.float32
    assert truths[name].min() >= 0.0 and truths[name].max() <= 1.0
    assert shows(name, truths)
    assert nearest(truths[name], name, truths) == name
    assert name not in true_edits(astronaut)
    odd = np.random.default_rng(0).random((70, 53, 3), dtype=np.float32)
    assert FURTHER[name].apply(odd).shape == odd.shape


def test_edges_correlate_with_themselves(astronaut: Colours, truths: dict[str, Colours]) -> None:
    assert edge_correlation(astronaut, astronaut) == pytest.approx(1.0)
    assert edge_correlation(astronaut, truths["blur"]) < 0.8


def test_triplets_pair_each_crop_with_two_edits_and_drop_what_they_promise() -> None:
    photographs = [skimage.data.chelsea(), skimage.data.coffee()]
    assert sampling_weights(photographs).sum() == pytest.approx(1.0)
    sampler = TripletSampler(CropSampler(photographs, seed=0), 0, {})
    batch = sampler.draw(8, 64)
    assert batch.crops.shape == (4, 64, 64, 3)
    assert batch.edited.shape == (8, 64, 64, 3)
    assert len(batch.kinds) == 8
    drawn = [sampler.draw(40, 8) for _ in range(60)]
    text = np.concatenate([b.drop_text for b in drawn])
    image = np.concatenate([b.drop_image for b in drawn])
    assert text.mean() == pytest.approx(DROP_TEXT + DROP_BOTH, abs=0.025)
    assert image.mean() == pytest.approx(DROP_IMAGE + DROP_BOTH, abs=0.025)
    assert (text & image).mean() == pytest.approx(DROP_BOTH, abs=0.02)
