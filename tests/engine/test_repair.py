"""What a model blurred or tinged is mended by its source; all else comes back byte for byte."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from benchmarks.spoiling import tinge
from engine.options import Repair
from engine.quality.colour import to_lab
from engine.quality.repair import MOST_SHIFT, repair
from tests.engine.test_measures import COFFEE, true_edit
from training.measures import psnr


def decibels(result: np.ndarray, true: np.ndarray) -> float:
    return psnr(result.astype(np.float32) / 255, true.astype(np.float32) / 255)


@pytest.mark.parametrize("kind", ["night", "sepia", "sky_pink", "poster", "frame_white"])
def test_a_result_that_needs_no_repair_stays_as_it_is(kind: str) -> None:
    edited = true_edit(kind)
    mended, done = repair(COFFEE, edited, "both")
    assert mended is edited and done == ()


@pytest.mark.parametrize("kind", ["night", "sepia", "warm", "frame_white"])
def test_a_blurred_result_gets_the_sharpness_of_its_source(kind: str) -> None:
    true = true_edit(kind)
    blurred = cv2.GaussianBlur(true, (0, 0), 3)
    mended, done = repair(COFFEE, blurred, "sharpen")
    assert done == ("sharpened",)
    assert decibels(mended, true) > decibels(blurred, true) + 1


@pytest.mark.parametrize("kind", ["frame_white", "frame_black", "sky_pink"])
def test_a_cast_is_taken_off_what_was_not_edited(kind: str) -> None:
    true = true_edit(kind)
    cast = tinge(true, 4, -4)
    mended, done = repair(COFFEE, cast, "colour")
    assert done == ("recoloured",)
    assert decibels(mended, true) > decibels(cast, true) + 1


def test_a_cast_is_taken_off_by_six_at_most() -> None:
    cast = tinge(true_edit("frame_white"), 9, 0)
    mended, _ = repair(COFFEE, cast, "colour")
    moved = to_lab(cast) - to_lab(mended)
    assert np.median(moved[..., 1]) == pytest.approx(MOST_SHIFT, abs=0.3)


@pytest.mark.parametrize(("wanted", "done"), [("sharpen", ()), ("colour", ()), ("none", ())])
def test_only_what_is_asked_for_is_repaired(wanted: Repair, done: tuple[str, ...]) -> None:
    spoiled = {
        "sharpen": tinge(true_edit("frame_white"), 6, 0),
        "colour": cv2.GaussianBlur(true_edit("night"), (0, 0), 3),
        "none": cv2.GaussianBlur(true_edit("night"), (0, 0), 3),
    }[wanted]
    mended, repaired = repair(COFFEE, spoiled, wanted)
    assert mended is spoiled and repaired == done


def test_a_source_that_was_never_sharp_is_not_sharpened() -> None:
    soft = cv2.GaussianBlur(COFFEE, (0, 0), 4)
    blurred = cv2.GaussianBlur(soft, (0, 0), 2)
    assert repair(soft, blurred, "sharpen") == (blurred, ())
