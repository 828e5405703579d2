"""An edit is a local function of colour, and is enlarged as one."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from engine.detail import Enlargement, box_mean, fit_local_map, pixels_of, planes_of
from tests.conftest import photograph


def test_a_local_map_makes_the_edited_canvas_out_of_its_guide() -> None:
    guide = photograph("coffee")[:128, :192]
    edited = 255 - guide[:, ::-1] // 2
    local = fit_local_map(guide, edited)
    again = np.einsum("oihw,ihw->ohw", local.slope, planes_of(guide)) + local.offset
    assert np.array_equal(pixels_of(again), edited)


def test_averages_do_not_depend_on_how_planes_lie_in_memory() -> None:
    planes = np.random.default_rng(0).normal(size=(13, 11, 3)).astype(np.float32).transpose(2, 0, 1)
    assert np.array_equal(box_mean(planes), box_mean(np.ascontiguousarray(planes)))


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


def test_colours_are_mapped_as_by_maps_that_are_enlarged_in_bands_of_any_height() -> None:
    random = np.random.default_rng(0)
    maps = random.normal(size=(3, 4, 11, 17)).astype(np.float32)
    for width, height in ((170, 111), (123, 77), (17, 11), (9, 6)):
        colours = random.uniform(0, 255, (3, height, width)).astype(np.float32)
        field = Enlargement(maps, (width, height)).rows(0, height)
        expected = np.einsum("oihw,ihw->ohw", field[:, :3], colours) + field[:, 3]
        whole = Enlargement(maps, (width, height)).mapped(colours, 0)
        assert np.abs(whole - expected).max() < 1e-3
        banded = Enlargement(maps, (width, height))
        bands = [banded.mapped(colours[:, top : top + 5], top) for top in range(0, height, 5)]
        assert np.array_equal(np.concatenate(bands, axis=1), whole)


def test_what_a_map_does_not_explain_gets_no_detail() -> None:
    """A poster's levels are no function of colour: the source's detail would blur their bounds."""
    source = photograph("chelsea")[100:228, 150:278]
    guide = cv2.GaussianBlur(source, (0, 0), 1)
    poster = (guide // 86 * 127).astype(np.uint8)
    warmer = pixels_of(planes_of(guide) * np.float32([1.1, 1.0, 0.8])[:, None, None])
    slopes = [np.abs(fit_local_map(guide, edited).slope).mean() for edited in (poster, warmer)]
    assert slopes[0] < 0.1  # 0.31 where every map counts
    assert slopes[1] > 0.2
