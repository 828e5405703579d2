"""The control image of an edit: edges found as OpenCV finds them, or an image that is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from engine import errors
from engine.actor import EditActor
from engine.catalogue import POCKET, SD15_CANNY
from engine.config import EngineConfig
from engine.edit import EditResult
from engine.options import EditOptions
from engine.sources import Prepared, Source, prepare
from engine.spec import ModelSpec
from tests.conftest import photograph, png

PHOTO = photograph("coffee")[:300, :400]
FILE = png(PHOTO)


def prepared(*files: bytes, spec: ModelSpec = SD15_CANNY, **given: object) -> Prepared:
    options = spec.resolve(EditOptions.parse({"num_inference_steps": 2, **given}), seed=7)
    return prepare("a", Source(files[0], references=files[1:]), "in oil", options, spec)


def control_of(*files: bytes, **given: object) -> np.ndarray:
    (control,) = prepared(*files, **given).request.references
    return control


def test_without_one_it_is_the_edges_of_the_canvas_by_the_thresholds() -> None:
    request = prepared(FILE).request
    (control,) = request.references
    assert control.shape == request.pixels.shape == (384, 512, 3)
    expected = cv2.Canny(request.pixels, 100, 200)
    assert all(np.array_equal(control[..., channel], expected) for channel in range(3))
    assert 0.01 < (control > 0).mean() < 0.5

    finer = control_of(FILE, canny_low_threshold=20, canny_high_threshold=60)
    assert np.array_equal(finer[..., 0], cv2.Canny(request.pixels, 20, 60))
    assert (finer > 0).sum() > 1.2 * (control > 0).sum()


@pytest.mark.parametrize("resize", ["fit", "crop", "pad", "stretch"])
def test_one_that_is_given_comes_to_the_canvas_as_its_source_does(resize: str) -> None:
    for more in ({}, {"size": "320x512"}):
        request = prepared(FILE, FILE, resize=resize, **more).request
        assert np.array_equal(request.references[0], request.pixels)


def test_one_that_is_given_is_not_searched_for_edges() -> None:
    drawn = np.zeros((512, 512, 3), np.uint8)
    drawn[100:300, 200] = 255
    control = control_of(png(photograph("astronaut")), png(drawn))
    assert np.array_equal(control, drawn)


def test_one_of_another_size_is_refused() -> None:
    with pytest.raises(errors.OptionInvalid) as caught:
        prepared(FILE, png(PHOTO[:200]))
    assert caught.value.message == (
        "image: the second is the control image, and it is 400x200 px and the first 400x300 px, "
        "turned upright: both must have the same size"
    )
    assert caught.value.param == "image"


def test_a_damaged_one_is_named_by_its_place() -> None:
    with pytest.raises(errors.ImageTruncated, match=r"^image 2 of 2: "):
        prepared(FILE, FILE[:-99])
    with pytest.raises(errors.OptionInvalid, match="takes at most 2 source images; got 3"):
        prepared(FILE, FILE, FILE)


def test_thresholds_beside_one_would_change_nothing_and_are_refused() -> None:
    for name, value in (("canny_low_threshold", 50), ("canny_high_threshold", 150)):
        with pytest.raises(errors.OptionInvalid, match=f"{name} has no effect beside") as caught:
            prepared(FILE, FILE, **{name: value})
        assert caught.value.param == name
    assert control_of(FILE, FILE, canny_low_threshold=100).shape == (384, 512, 3)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"canny_low_threshold": 300}, "canny_low_threshold"),
        ({"canny_high_threshold": 99}, "canny_high_threshold"),
        ({"canny_low_threshold": 60, "canny_high_threshold": 20}, "canny_low_threshold"),
    ],
)
def test_thresholds_in_the_wrong_order_are_refused(given: dict[str, int], param: str) -> None:
    """OpenCV would exchange them without a word."""
    with pytest.raises(errors.OptionInvalid, match=r"is above canny_high_threshold") as caught:
        prepared(FILE, **given)
    assert caught.value.param == param
    assert control_of(FILE, canny_low_threshold=200).any()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"canny_low_threshold": -1}, "canny_low_threshold"),
        ({"canny_high_threshold": 2041}, "canny_high_threshold"),
        ({"controlnet_conditioning_scale": 2.1}, "controlnet_conditioning_scale"),
    ],
)
def test_values_beyond_the_bounds_are_refused_by_name(given: dict[str, float], says: str) -> None:
    with pytest.raises(errors.OptionError, match=says):
        prepared(FILE, **given)


@pytest.mark.parametrize("name", ["controlnet_conditioning_scale", "canny_high_threshold"])
def test_a_model_without_a_controlnet_refuses_its_options_by_name(name: str) -> None:
    with pytest.raises(errors.OptionInvalid, match=f"model pocket has no {name}; it takes"):
        prepared(FILE, spec=POCKET, **{name: 1})


def test_a_picture_without_an_edge_and_a_black_control_image_are_told() -> None:
    flat = png(np.full((300, 400, 3), 128, np.uint8))
    assert prepared(flat).warnings == ("control_empty",)
    assert not control_of(flat).any()
    assert prepared(FILE, png(np.zeros_like(PHOTO))).warnings == ("control_empty",)
    assert prepared(FILE).warnings == prepared(FILE, FILE).warnings == ()
    assert prepared(FILE, canny_low_threshold=2040, canny_high_threshold=2040).warnings == (
        "control_empty",
    )


@pytest.fixture(scope="module")
def actor(tiny: Callable[[str], Path]) -> Iterator[EditActor]:
    config = EngineConfig(model=str(tiny("sd15-canny")), determinism="strict", num_threads=1)
    with EditActor(config) as made:
        yield made


def edited(actor: EditActor, *files: bytes, **given: object) -> EditResult:
    (outcome,) = actor.edit_batch([prepared(*files, spec=actor.spec, **given).request])
    assert isinstance(outcome, EditResult), outcome
    return outcome


def test_the_edges_given_as_a_control_image_make_the_same_bytes(actor: EditActor) -> None:
    small = PHOTO[100:164, 150:214]
    edges = np.repeat(cv2.Canny(small, 100, 200)[..., None], 3, axis=2)
    assert edges.any()
    found, given = edited(actor, png(small)), edited(actor, png(small), png(edges))
    other = edited(actor, png(small), png(edges[::-1].copy()))
    assert found.images[0].tobytes() == given.images[0].tobytes() != other.images[0].tobytes()
    assert found.reconstructed is None


def test_what_is_kept_of_a_source_is_measured_against_it_without_strength_too(
    actor: EditActor,
) -> None:
    plain = edited(actor, FILE)
    kept = edited(actor, FILE, detail="source", preserve="auto")
    assert kept.images[0].tobytes() == plain.images[0].tobytes()
    assert kept.reconstructed is not None and kept.reconstructed.shape == plain.images[0].shape
