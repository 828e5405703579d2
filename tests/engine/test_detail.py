"""An edit is a local function of colour, and is enlarged as one."""

from __future__ import annotations

import numpy as np
from PIL import Image

from engine.detail import Enlargement, fit_local_map, pixels_of, planes_of
from tests.conftest import photograph


def test_a_local_map_makes_the_edited_canvas_out_of_its_guide() -> None:
    guide = photograph("coffee")[:128, :192]
    edited = 255 - guide[:, ::-1] // 2
    local = fit_local_map(guide, edited)
    again = np.einsum("oihw,ihw->ohw", local.slope, planes_of(guide)) + local.offset
    assert np.array_equal(pixels_of(again), edited)


def test_planes_are_enlarged_as_pillow_does_it() -> None:
    plane = np.random.default_rng(0).normal(size=(11, 17)).astype(np.float32)
    for size in ((17, 11), (18, 11), (170, 110), (123, 77)):
        ours = Enlargement(plane[None], size).rows(0, size[1])[0]
        theirs = Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR)
        assert np.abs(ours - np.asarray(theirs)).max() < 1e-5
    assert np.array_equal(Enlargement(plane[None], (17, 11)).rows(0, 11)[0], plane)


def test_a_picture_smaller_than_its_canvas_is_made_of_averages() -> None:
    plane = np.kron(np.arange(12, dtype=np.float32).reshape(3, 4), np.ones((4, 4), np.float32))
    plane += np.tile([-1.0, 1.0], (12, 8)).astype(np.float32)
    smaller = Enlargement(plane[None], (4, 3)).rows(0, 3)[0]
    assert np.allclose(smaller, np.arange(12).reshape(3, 4))
