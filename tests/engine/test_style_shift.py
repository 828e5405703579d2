"""What is measured of an edit's look: CIE Lab and local binary patterns, as their makers say."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage.color import rgb2lab

from engine.style_shift import measure_style_shift, texture_distance, texture_of
from tests.conftest import photograph


def grey(level: int) -> np.ndarray:
    return np.full((64, 96, 3), level, np.uint8)


def test_the_same_picture_has_not_moved() -> None:
    shift = measure_style_shift(photograph("coffee"), photograph("coffee"))
    assert (shift.lab, shift.border_lab, shift.texture) == ((0, 0, 0), (0, 0, 0), 0)


def test_the_shift_of_the_colours_is_the_mean_in_lab() -> None:
    coffee = photograph("coffee")[:128, :128]
    warm = (coffee * [1.0, 0.9, 0.7]).astype(np.uint8)
    whole = (rgb2lab(warm) - rgb2lab(coffee)).mean(axis=(0, 1))
    shift = measure_style_shift(coffee, warm)
    assert shift.lab == pytest.approx(whole, abs=0.05)
    assert measure_style_shift(grey(0), grey(255)).lab == pytest.approx((100, 0, 0), abs=0.01)


def test_what_changed_along_the_sides_alone_is_seen_there() -> None:
    framed = grey(255)
    framed[8:-8, 12:-12] = 0
    shift = measure_style_shift(grey(0), framed)
    assert shift.border_lab[0] == pytest.approx(100, abs=0.01)
    assert shift.lab[0] == pytest.approx(100 * (1 - 0.75**2), abs=0.01)


def test_the_patterns_are_those_of_their_definition() -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (9, 12, 3), np.uint8)
    levels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(int)
    counts = np.zeros(10)
    for y in range(1, 8):
        for x in range(1, 11):
            top, bottom = levels[y - 1, x - 1 : x + 2], levels[y + 1, x - 1 : x + 2]
            ring = [*top, levels[y, x + 1], *bottom[::-1], levels[y, x - 1]]
            bits = [level >= levels[y, x] for level in ring]
            changes = sum(bits[i] != bits[i - 1] for i in range(8))
            counts[sum(bits) if changes <= 2 else 9] += 1
    assert texture_of(pixels) == pytest.approx(counts / counts.sum())


def test_the_distance_of_textures_is_chi_squared_from_0_to_1() -> None:
    one, other = np.eye(10)[0], np.eye(10)[5]
    assert texture_distance(one, one) == 0
    assert texture_distance(one, other) == 1
    assert texture_distance(one, (one + other) / 2) == pytest.approx(0.5 * (0.25 / 1.5 + 0.5))


def test_a_blurred_picture_has_another_texture_and_a_darker_one_has_not() -> None:
    coffee = photograph("coffee")
    blurred = cv2.GaussianBlur(coffee, (0, 0), 3)
    darker = (coffee * 0.8).astype(np.uint8)
    textures = [measure_style_shift(coffee, edited).texture for edited in (blurred, darker)]
    assert textures[0] > 0.1 > textures[1]
