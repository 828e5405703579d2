"""Every family: the same weights, sources, noise and parameters give diffusers' latents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from engine.catalogue import FLUX2_KLEIN, FLUX_KONTEXT
from engine.geometry import plan_geometry, to_canvas
from engine.options import EditOptions
from engine.sampling import Schedule
from tests.conftest import photograph
from tests.engine.families import (
    BOUND,
    Twins,
    check_same,
    difference,
    one_thread,
)
from tests.tiny.edits import source


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    with one_thread():
        yield


def test_edits_are_those_of_diffusers_alone_and_joining_a_mixed_batch(twins: Twins) -> None:
    for mine, theirs in zip(twins.alone, twins.expected, strict=True):
        check_same(mine, theirs, twins.family.bound)

    loop = twins.loop()
    for mine, theirs in zip(twins.rayedit(twins.edits, loop=loop), twins.expected, strict=True):
        check_same(mine, theirs, twins.family.bound)
    alone = sum(edit.options["num_inference_steps"] for edit in twins.edits)
    assert loop.counters.calls < alone


def test_the_shift_of_another_canvas_is_another_picture(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound sees the noise levels: 1.15 is the shift of a megapixel."""
    edit = twins.edits[1]
    schedule = twins.editor.schedule
    mine = schedule(twins.request(edit))
    if mine.mu is None:
        pytest.skip("its noise levels do not depend on the canvas")

    def shifted(request: object) -> Schedule:
        return replace(mine, mu=1.15)

    monkeypatch.setattr(twins.editor, "schedule", shifted)
    assert difference(twins.rayedit([edit])[0], twins.expected[1]) > 100 * BOUND


def test_a_stretched_photograph_is_the_one_that_kontext_sees_in_diffusers() -> None:
    """Its own geometry: the nearest of its sizes, one Lanczos resize."""
    from diffusers.image_processor import VaeImageProcessor
    from diffusers.pipelines.flux import pipeline_flux_kontext

    assert list(FLUX_KONTEXT.sizes) == pipeline_flux_kontext.PREFERRED_KONTEXT_RESOLUTIONS
    for name in ("chelsea", "rocket"):
        image = Image.fromarray(photograph(name))
        geometry = plan_geometry(image.size, EditOptions(resize="stretch"), FLUX_KONTEXT)
        width, height = geometry.inner
        assert geometry.inner in FLUX_KONTEXT.sizes
        theirs = VaeImageProcessor(vae_scale_factor=16).resize(image, height, width)
        assert np.array_equal(to_canvas(image, geometry), np.asarray(theirs))


@pytest.mark.parametrize("size", [(451, 300), (1024, 1024), (1700, 1100), (3000, 401)])
def test_a_photograph_meets_klein_as_in_diffusers(size: tuple[int, int]) -> None:
    """Up to a megapixel it is cut and not resized: no pixel changes."""
    from diffusers.pipelines.flux2.image_processor import Flux2ImageProcessor

    image = Image.fromarray(source("chelsea", *size))
    geometry = plan_geometry(size, EditOptions(), FLUX2_KLEIN)
    processor = Flux2ImageProcessor()
    whole = processor._resize_if_exceeds_area(image)
    width, height = (side // 16 * 16 for side in whole.size)
    theirs = np.asarray(processor._resize_and_crop(whole, width, height))
    mine = to_canvas(image, geometry)
    assert mine.shape == theirs.shape
    beyond = np.abs(mine.astype(int) - theirs).max()
    assert beyond <= (0 if whole is image else 1)


@pytest.mark.parametrize(("strength", "steps"), [(1.0, 4), (0.8, 5), (0.55, 6)])
def test_masked_edits_are_those_of_diffusers_inpainting(
    twins: Twins, strength: float, steps: int
) -> None:
    """The mask lies on the grid of latents: diffusers drops what is thinner."""
    if twins.family.inpainting is None:
        pytest.skip("diffusers cannot inpaint with this family")
    edit = twins.edits[0]
    mask = np.zeros(edit.sources[0].shape[:2], np.uint8)
    mask[16:48, 16:64] = 255
    options = {**edit.options, "num_inference_steps": steps, "strength": strength}
    edit = replace(edit, mask=mask, options=options)
    theirs = twins.diffusers(edit, twins.inpainting)
    loop = twins.loop()
    check_same(twins.rayedit([edit], loop=loop)[0], theirs)
    assert loop.counters.calls == {1.0: 4, 0.8: 4, 0.55: 4}[strength]

    everywhere = replace(edit, mask=np.full_like(mask, 255))
    assert difference(twins.diffusers(everywhere, twins.inpainting), theirs) > 100 * BOUND
