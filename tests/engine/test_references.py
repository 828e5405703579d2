"""Further sources: decoded as the first is, each at a size of its own, and seen by the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine import errors, images
from engine.actor import EditActor
from engine.catalogue import FLUX2_KLEIN, POCKET, QWEN_IMAGE_EDIT_2511
from engine.config import EngineConfig
from engine.edit import EditResult
from engine.options import EditOptions
from engine.sources import Prepared, Source, prepare
from engine.spec import ModelSpec
from tests.conftest import PHOTOGRAPHS, jpeg, photograph, png

FILES = {name: png(photograph(name)[:200, :300]) for name in PHOTOGRAPHS}
COFFEE, CHELSEA, ROCKET = FILES["coffee"], FILES["chelsea"], FILES["rocket"]
SIZES = [(640, 480), (1024, 1024), (4000, 3000), (2000, 260), (500, 3900), (1111, 997), (64, 64)]


def prepared(spec: ModelSpec, *files: bytes, **given: object) -> Prepared:
    options = spec.resolve(EditOptions.parse({"num_inference_steps": 2, **given}), seed=7)
    return prepare("a", Source(files[0], references=files[1:]), "add fog", options, spec)


def reference_of(spec: ModelSpec, size_px: tuple[int, int]) -> np.ndarray:
    file = jpeg(np.asarray(Image.fromarray(photograph("rocket")).resize(size_px)))
    (found,) = prepared(spec, COFFEE, file).request.references
    return found


def as_decoded(size_px: tuple[int, int]) -> Image.Image:
    file = jpeg(np.asarray(Image.fromarray(photograph("rocket")).resize(size_px)))
    return images.decode(file).image


@pytest.mark.parametrize("size_px", SIZES, ids=str)
def test_flux2_gets_a_further_source_as_diffusers_brings_it_there(size_px: tuple[int, int]) -> None:
    from diffusers.pipelines.flux2.image_processor import Flux2ImageProcessor

    processor = Flux2ImageProcessor(vae_scale_factor=16)
    image = as_decoded(size_px)
    if image.width * image.height > 1024 * 1024:
        image = processor._resize_to_target_area(image)
    width, height = (side // 16 * 16 for side in image.size)
    tensor = processor.preprocess(image, height=height, width=width, resize_mode="crop")
    wanted = ((tensor[0].permute(1, 2, 0).numpy() + 1) * 127.5).round().astype(int)
    found = reference_of(FLUX2_KLEIN, size_px)
    assert found.shape == wanted.shape
    differs = np.abs(found - wanted)
    if size_px[0] * size_px[1] <= 1024 * 1024:
        assert not differs.any()
    else:  # the cut is taken of the source, so that one filter sees beyond it
        assert differs[8:-8, 8:-8].max() <= 1 and differs.mean() < 0.1


@pytest.mark.parametrize("size_px", SIZES, ids=str)
def test_qwen_gets_a_further_source_as_diffusers_brings_it_there(size_px: tuple[int, int]) -> None:
    from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus import calculate_dimensions

    image = as_decoded(size_px)
    width, height = calculate_dimensions(1024 * 1024, image.width / image.height)
    wanted = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))
    assert np.array_equal(reference_of(QWEN_IMAGE_EDIT_2511, size_px), wanted)


def test_the_canvas_is_that_of_the_first_and_options_of_the_edit_are_of_it_alone() -> None:
    tall = png(photograph("rocket")[:300, :200])
    plain = prepared(FLUX2_KLEIN, COFFEE, tall).request
    padded = prepared(FLUX2_KLEIN, COFFEE, tall, resize="pad", size="512x512").request
    assert plain.pixels.shape == (192, 288, 3) and padded.pixels.shape == (512, 512, 3)
    assert [r.shape for r in plain.references + padded.references] == [(288, 192, 3)] * 2
    assert np.array_equal(plain.references[0], padded.references[0])


def test_further_sources_are_in_the_order_in_which_they_were_given() -> None:
    def references(*files: bytes) -> list[bytes]:
        return [r.tobytes() for r in prepared(FLUX2_KLEIN, *files).request.references]

    chelsea, rocket = references(COFFEE, CHELSEA) + references(COFFEE, ROCKET)
    assert references(COFFEE, CHELSEA, ROCKET) == [chelsea, rocket]
    assert references(COFFEE, ROCKET, CHELSEA) == [rocket, chelsea]


def test_a_bad_image_says_which_of_them_it_is() -> None:
    for files, number in (((b"none", COFFEE), 1), ((COFFEE, ROCKET, b"none"), 3)):
        with pytest.raises(errors.ImageUnsupported) as caught:
            prepared(FLUX2_KLEIN, *files)
        assert caught.value.message.startswith(f"image {number} of {len(files)}: ")
        assert caught.value.param == "image"
    with pytest.raises(errors.ImageUnsupported) as alone:
        prepared(FLUX2_KLEIN, b"none")
    assert " of 1" not in alone.value.message


def test_every_limit_holds_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = png(photograph("coffee")[:20, :400])
    for file, error in ((narrow, errors.ImageTooNarrow), (COFFEE[:-99], errors.ImageTruncated)):
        with pytest.raises(error, match="image 2 of 2"):
            prepared(FLUX2_KLEIN, COFFEE, file)
    monkeypatch.setattr(images, "MAX_PIXELS", 300 * 200)
    larger = png(photograph("coffee")[:201, :300])
    with pytest.raises(errors.ImageTooLarge, match="image 2 of 2"):
        prepared(FLUX2_KLEIN, COFFEE, larger)


def test_what_was_softened_of_any_of_them_is_told_once() -> None:
    clear = photograph("coffee")[:200, :300]
    alpha = np.full((*clear.shape[:2], 1), 128, np.uint8)
    file = png(np.concatenate([clear, alpha], axis=2))
    found = prepared(FLUX2_KLEIN, COFFEE, file, file).warnings  # 400 px on a model of 1024
    assert found == ("source_small", "alpha_flattened")


def test_too_many_are_refused_before_any_is_decoded() -> None:
    with pytest.raises(errors.OptionInvalid, match="pocket takes one source image; got 2"):
        prepared(POCKET, b"none", b"none")
    with pytest.raises(errors.OptionInvalid, match="klein takes at most 4 source images; got 5"):
        prepared(FLUX2_KLEIN, *[b"none"] * 5)


@pytest.fixture(scope="module")
def klein(tiny: Callable[[str], Path]) -> Iterator[EditActor]:
    config = EngineConfig(
        model=str(tiny("flux2-klein-distilled")), determinism="strict", num_threads=1
    )
    with EditActor(config) as actor:
        yield actor


def edited(actor: EditActor, *files: bytes) -> np.ndarray:
    (outcome,) = actor.edit_batch([prepared(actor.spec, *files).request])
    assert isinstance(outcome, EditResult), outcome
    return outcome.images[0]


def test_the_model_sees_them_all_and_in_their_order(klein: EditActor) -> None:
    pictures = [
        edited(klein, COFFEE),
        edited(klein, COFFEE, CHELSEA),
        edited(klein, COFFEE, CHELSEA, ROCKET),
        edited(klein, COFFEE, ROCKET, CHELSEA),
        edited(klein, CHELSEA, COFFEE),
    ]
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    assert np.array_equal(edited(klein, COFFEE, CHELSEA), pictures[1])


def test_edits_of_one_canvas_with_other_further_sources_share_no_picture(klein: EditActor) -> None:
    """What is kept of a source is kept by its own pixels, not by those of the first."""
    files = [(COFFEE,), (COFFEE, CHELSEA), (COFFEE, ROCKET)]
    requests = [
        replace(prepared(klein.spec, *sources).request, id=str(i))
        for i, sources in enumerate(files)
    ]
    outcomes = {outcome.id: outcome for outcome in klein.edit_batch(requests)}
    for i, sources in enumerate(files):
        outcome = outcomes[str(i)]
        assert isinstance(outcome, EditResult)
        assert np.array_equal(outcome.images[0], edited(klein, *sources))
