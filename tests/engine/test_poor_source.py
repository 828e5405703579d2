"""A poor source is told before the work: blurred, dark, backlit, small; a good one is not."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmarks.spoiling import SPOILS, Spoil, expose, saved
from engine.quality.poor_source import find_poor
from tests.conftest import PHOTOGRAPHS, photograph

KINDS = [(code, spoil) for code, spoils in SPOILS.items() for _, spoil in spoils]
NAMES = [name for spoils in SPOILS.values() for name, _ in spoils]


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_a_good_photograph_has_nothing_to_warn_of(name: str) -> None:
    assert find_poor(saved(photograph(name)), 128) == []


@pytest.mark.parametrize(("code", "spoil"), KINDS, ids=NAMES)
def test_a_photograph_that_was_spoiled_by_a_known_amount_is_found(code: str, spoil: Spoil) -> None:
    for name in ("astronaut", "coffee"):
        assert find_poor(saved(spoil(photograph(name))), 128) == [code], name


def test_a_source_of_less_than_half_of_the_models_resolution_is_small() -> None:
    image = Image.fromarray(photograph("coffee"))  # 600 x 400
    assert find_poor(image, 800) == []
    assert find_poor(image, 802) == ["source_small"]


def test_a_picture_without_detail_is_not_called_blurred() -> None:
    flat = np.full((200, 300, 3), 200, np.uint8)
    assert find_poor(Image.fromarray(flat), 128) == []


def test_a_night_with_lights_is_not_underexposed() -> None:
    night = expose(photograph("coffee"), -4)
    night[::40, ::40] = night[1::40, ::40] = night[::40, 1::40] = 255
    lit = np.kron(night[::8, ::8], np.ones((8, 8, 1), np.uint8))
    assert "source_dark" not in find_poor(Image.fromarray(lit), 32)


def test_a_photograph_is_judged_as_it_is_seen_whatever_its_pixels() -> None:
    """A blur of some pixels shows on no screen where there are ten times as many of them."""
    large = Image.fromarray(photograph("chelsea")).resize((4510, 3000), Image.Resampling.BICUBIC)
    assert find_poor(large, 128) == []
