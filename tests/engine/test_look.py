"""The look of a picture: CIE Lab and local binary patterns, as their makers say."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage.color import rgb2lab

from engine.look import look_of, texture_of
from tests.conftest import photograph


def grey(level: int) -> np.ndarray:
    return np.full((64, 96, 3), level, np.uint8)


def test_the_colour_of_a_picture_is_the_mean_in_lab() -> None:
    coffee = photograph("coffee")[:128, :128]
    look = look_of(coffee)
    assert look.lab == pytest.approx(rgb2lab(coffee).mean(axis=(0, 1)), abs=0.1)
    assert look_of(grey(255)).lab == pytest.approx((100, 0, 0), abs=0.01)


def test_what_lies_along_the_sides_alone_is_seen_there() -> None:
    framed = grey(255)
    framed[8:-8, 12:-12] = 0
    look = look_of(framed)
    assert look.border_lab[0] == pytest.approx(100, abs=0.01)
    assert look.lab[0] == pytest.approx(100 * (1 - 0.75**2), abs=0.01)


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


def test_a_blurred_picture_has_another_texture_and_a_darker_one_has_not() -> None:
    coffee = photograph("coffee")
    blurred = cv2.GaussianBlur(coffee, (0, 0), 3)
    darker = (coffee * 0.8).astype(np.uint8)
    own, *others = (np.array(look_of(p).texture) for p in (coffee, blurred, darker))
    differ = [np.abs(texture - own).sum() / 2 for texture in others]
    assert differ[0] > 0.1 > differ[1]
