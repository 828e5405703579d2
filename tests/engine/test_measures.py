"""What an edit did to a picture, in numbers: each sees what it is for, and nothing else."""

from __future__ import annotations

from dataclasses import asdict

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks.spoiling import tinge
from engine.edit import WARNINGS, Measured
from engine.quality.measures import measure
from tests.conftest import photograph
from training.kinds import KINDS
from training.photographs import square

COFFEE, CHELSEA = (square(photograph(name), 256) for name in ("coffee", "chelsea"))


def true_edit(kind: str, source: np.ndarray = COFFEE) -> np.ndarray:
    edited = KINDS[kind].apply(source.astype(np.float32) / 255)
    return np.round(np.clip(edited, 0, 1) * 255).astype(np.uint8)


def measured(result: np.ndarray, source: np.ndarray = COFFEE) -> tuple[Measured, list[str]]:
    return measure(Image.fromarray(result), source, "full")


def test_a_picture_beside_itself_is_unchanged_and_nothing_else() -> None:
    found, codes = measured(COFFEE)
    assert codes == ["result_unchanged"]
    values = asdict(found)
    assert 7 < values.pop("entropy") < 8
    ones = {"sharpness_ratio": 1, "ssim": 1, "edge_correlation": 1}
    assert values == pytest.approx({**dict.fromkeys(values, 0), **ones})


@pytest.mark.parametrize("kind", ["night", "sepia", "sky_pink", "frame_black", "centre_focus"])
def test_a_true_edit_is_not_warned_of(kind: str) -> None:
    assert measured(true_edit(kind))[1] == []


def test_a_blur_of_all_is_seen_and_one_of_a_part_is_not() -> None:
    blurred = cv2.GaussianBlur(true_edit("night"), (0, 0), 3)
    assert measured(blurred)[1] == ["result_blurry"]
    half = true_edit("night")
    half[:, :128] = blurred[:, :128]
    assert measured(half)[1] == []


def test_a_cast_over_what_was_not_edited_is_seen_and_a_tint_that_is_the_edit_is_not() -> None:
    found, codes = measured(tinge(true_edit("frame_white"), 6, 0))
    assert codes == ["result_cast"] and 5 < found.colour_cast < 7
    assert measured(true_edit("tint_blue"))[0].colour_cast == 0


def test_a_blank_result_and_another_photograph_are_told() -> None:
    assert measured(np.full_like(COFFEE, 90))[1] == ["result_blank"]
    assert "structure_lost" in measured(CHELSEA)[1]


def test_a_large_result_is_measured_as_its_small_copy() -> None:
    large = Image.fromarray(true_edit("night")).resize((2048, 2048), Image.Resampling.BICUBIC)
    of_large, of_small = measure(large, COFFEE, "fast")[0], measured(true_edit("night"))[0]
    assert of_large.displacement is None
    for name, value in asdict(of_large).items():
        if value is not None:
            assert value == pytest.approx(getattr(of_small, name), rel=0.1, abs=0.01), name


@pytest.mark.parametrize("kind", ["night", "sky_pink", "poster", "winter"])
@pytest.mark.parametrize("pixels", [2, 5])
def test_how_far_a_picture_moved_is_measured_whatever_was_done_to_its_colours(
    kind: str, pixels: int
) -> None:
    edited = true_edit(kind)
    moved = np.roll(edited, pixels, axis=1)
    found = [measured(picture)[0].displacement for picture in (edited, moved)]
    assert found == pytest.approx([0, pixels / 256], abs=1 / 256)


def test_a_picture_without_an_edge_to_follow_has_not_moved_by_any_measure() -> None:
    assert measured(np.full_like(COFFEE, 90))[0].displacement is None
    assert measured(CHELSEA)[0].edge_correlation < 0.3


def test_every_code_has_a_meaning() -> None:
    noisy = np.random.default_rng(0).integers(0, 256, COFFEE.shape, np.uint8)
    for result in (COFFEE, CHELSEA, noisy, np.zeros_like(COFFEE)):
        assert set(measured(result)[1]) <= WARNINGS.keys()
