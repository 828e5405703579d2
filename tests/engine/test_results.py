"""From files to finished pictures, with a real model between: what is asked to stay, stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest

from engine import EditActor, EditOptions, EngineConfig
from engine.edit import EditResult
from engine.errors import MaskInvalid
from engine.finishing import Finished
from engine.images import decode
from engine.masks import decode_mask, encode_mask
from engine.registry import find_model
from engine.results import finished_images
from engine.sources import Prepared, Source, prepare
from engine.spec import ModelSpec
from tests.conftest import jpeg, photograph, png
from tests.masks import KINDS, draw_mask, openai_mask

SAMPLERS = ("ddim", "euler_ancestral", "heun", "dpmpp_2m", "unipc")
GEOMETRIES: tuple[dict[str, object], ...] = (
    {"restore_size": True},
    {"restore_size": False},
    {"resize": "crop"},
    {"resize": "pad", "restore_size": False},
)
PHOTOGRAPHS = ("coffee", "rocket", "astronaut")


@pytest.fixture(scope="module")
def pocket64() -> Iterator[EditActor]:
    spec = find_model("pocket", resolution=64)
    with EditActor(EngineConfig(max_batch_size=8, num_threads=1), spec) as actor:
        yield actor


@pytest.fixture(scope="module")
def toy(tiny: Callable[[str], Path]) -> Iterator[EditActor]:
    spec = replace(find_model(str(tiny("instruct-pix2pix"))), resolution=64)
    with EditActor(EngineConfig(max_batch_size=8, num_threads=1), spec) as actor:
        yield actor


def asked(
    id: str, name: str, spec: ModelSpec, mask: np.ndarray | None = None, **given: object
) -> Prepared:
    """An edit of two steps, decoded."""
    options = EditOptions.parse({"num_inference_steps": 2, "seed": 7, **given})
    drawn = None if mask is None else openai_mask(mask)
    source = Source(png(photograph(name)), drawn)
    return prepare(id, source, "make it night", spec.resolve(options, 0), spec)


def finished(actor: EditActor, edits: list[Prepared]) -> list[Finished]:
    made = []
    outcomes = actor.edit_batch([edit.request for edit in edits])
    for edit, outcome in zip(edits, outcomes, strict=True):
        assert isinstance(outcome, EditResult), outcome
        made += finished_images(outcome, edit.finishing)
    return made


def masked_edits(
    spec: ModelSpec, samplers: tuple[str, ...]
) -> Iterator[tuple[Prepared, np.ndarray]]:
    """Each sampler, geometry and kind of mask, with and without detail and preserve; and what of
    the mask the output must keep where it has the source's size."""
    wanted = [("model", "off"), ("source", "off"), ("source", "auto")]
    for i, (sampler, geometry, kind) in enumerate(product(samplers, GEOMETRIES, KINDS)):
        name = PHOTOGRAPHS[i % len(PHOTOGRAPHS)]
        height, width = photograph(name).shape[:2]
        mask = draw_mask(kind, (width, height))
        detail, preserve = wanted[i % len(wanted)]
        given = {"scheduler": sampler, "detail": detail, "preserve": preserve, **geometry}
        yield asked(str(i), name, spec, mask, **given), mask


def check_masks(actor: EditActor, samplers: tuple[str, ...]) -> int:
    """Edit under every mask; returns how many edits had the source's size."""
    edits = list(masked_edits(actor.spec, samplers))
    exact = 0
    made = finished(actor, [edit for edit, _ in edits])
    for (edit, mask), result in zip(edits, made, strict=True):
        assert result.report is not None and result.report.outside_change == 0
        name = PHOTOGRAPHS[int(edit.request.id) % len(PHOTOGRAPHS)]
        if edit.finishing.geometry.output == mask.shape[::-1]:
            exact += 1
            kept = mask == 0
            assert np.array_equal(result.pixels[kept], photograph(name)[kept])
        canvas_kept = edit.request.mask == 0
        assert canvas_kept.any()
        if result.pixels.shape == edit.request.pixels.shape:
            assert np.array_equal(result.pixels[canvas_kept], edit.request.pixels[canvas_kept])
        assert (result.pixels != 0).any()
    return exact


@pytest.mark.slow
@pytest.mark.parametrize(
    "samplers", [SAMPLERS[:2], pytest.param(SAMPLERS, marks=pytest.mark.chaos)], ids=len
)
def test_under_no_mask_of_any_kind_a_byte_differs_from_the_source(
    pocket64: EditActor, toy: EditActor, samplers: tuple[str, ...]
) -> None:
    exact = check_masks(pocket64, samplers) + check_masks(toy, samplers)
    assert exact == 2 * len(samplers) * len(KINDS)


def test_a_mask_is_honoured_while_the_picture_is_made_and_not_only_after(
    pocket64: EditActor,
) -> None:
    """The last composite keeps bytes; that the rest fits to them only the loop can do."""
    height, width = photograph("coffee").shape[:2]
    edits = [
        asked("free", "coffee", pocket64.spec),
        asked("held", "coffee", pocket64.spec, draw_mask("box", (width, height))),
    ]
    free, held = pocket64.edit_batch([edit.request for edit in edits])
    assert isinstance(free, EditResult) and isinstance(held, EditResult)
    kept = edits[1].request.mask == 0
    rebuilt = held.reconstructed.astype(int)
    moved = [np.abs(one.images[0].astype(int) - rebuilt)[kept].mean() for one in (free, held)]
    assert moved[1] < 0.2 * moved[0]


def test_what_the_model_was_shown_is_kept_beside_the_file_where_it_is_no_larger(
    pocket64: EditActor,
) -> None:
    """It is the file, shrunk: the picture is the same without it."""
    spec, edits = pocket64.spec, []
    see_through = np.dstack([photograph("rocket"), photograph("rocket")[..., 0]])
    for source, given in (
        (png(photograph("coffee")), {"preserve": "auto"}),
        (png(see_through), {"background": "transparent"}),
        (jpeg(photograph("astronaut")), {"resize": "pad"}),
    ):
        options = EditOptions.parse({"num_inference_steps": 2, "detail": "source", **given})
        edits.append(
            prepare(str(len(edits)), Source(source), "add fog", spec.resolve(options, 0), spec)
        )
        kept = edits[-1].finishing
        assert kept.source is not None and kept.canvas is not None
        assert kept.canvas.nbytes <= len(kept.source)
    small = Source(jpeg(photograph("coffee")[:80, :80]))
    larger = prepare("x", small, "add fog", spec.resolve(options, 0), spec).finishing
    assert larger.canvas is None and larger.source is not None
    again = [replace(one, finishing=replace(one.finishing, canvas=None)) for one in edits]
    shown, shrunk = finished(pocket64, edits), finished(pocket64, again)
    assert [np.asarray(one.image).tobytes() for one in shown] == [
        np.asarray(one.image).tobytes() for one in shrunk
    ]


def test_pocket_gives_the_source_back_at_its_size_with_its_detail(pocket64: EditActor) -> None:
    plain = {"detail": "model", "restore_size": False}
    edits = [
        asked("own", "coffee", pocket64.spec),
        asked("plain", "coffee", pocket64.spec, **plain),
    ]
    own, small = finished(pocket64, edits)
    assert own.pixels.shape == photograph("coffee").shape and own.report is not None
    assert small.pixels.shape == (48, 64, 3) and small.report is None
    assert edits[0].warnings == () and edits[1].warnings == ("smaller_than_source",)


@pytest.mark.parametrize("given", [{"size": "64x48"}, {"resize": "crop"}])
def test_who_asks_for_another_size_gets_it_from_pocket_too(
    pocket64: EditActor, given: dict[str, object]
) -> None:
    (made,) = finished(pocket64, [asked("a", "coffee", pocket64.spec, **given)])
    assert made.pixels.shape == ((48, 64, 3) if "size" in given else (64, 64, 3))


def test_what_is_only_wished_of_the_source_changes_no_bit_of_the_edit(pocket64: EditActor) -> None:
    given = [{"detail": d, "preserve": p} for d in ("model", "source") for p in ("off", "auto")]
    requests = [asked(str(i), "coffee", pocket64.spec, **g).request for i, g in enumerate(given)]
    results = [pocket64.edit_batch([request])[0] for request in requests]
    assert len({result.images[0].tobytes() for result in results}) == 1
    rebuilt = [result.reconstructed for result in results]
    assert rebuilt[0] is None and all((one == rebuilt[1]).all() for one in rebuilt[2:])


def test_measures_are_reported_and_change_no_byte(pocket64: EditActor) -> None:
    given: list[dict[str, object]] = [{}, {"detail": "model"}, {"detail": "model", "size": "64x48"}]
    for one in given:
        plain, fast, full = finished(
            pocket64,
            [
                asked(level, "coffee", pocket64.spec, measures=level, **one)
                for level in ("none", "fast", "full")
            ],
        )
        assert plain.image.tobytes() == fast.image.tobytes() == full.image.tobytes()
        assert plain.report is None or plain.report.measured is None
        assert fast.report is not None and fast.report.measured is not None
        assert full.report is not None and full.report.measured is not None
        assert fast.report.measured.displacement is None
        assert full.report.measured.displacement is not None
        assert replace(full.report.measured, displacement=None) == fast.report.measured


def test_a_blurred_edit_is_repaired_and_says_so_and_its_mask_still_holds(
    pocket64: EditActor,
) -> None:
    mask = draw_mask("box", (600, 400))
    edit = asked("a", "coffee", pocket64.spec, mask, repair="sharpen", measures="fast")
    (outcome,) = pocket64.edit_batch([edit.request])
    assert isinstance(outcome, EditResult)
    soft = cv2.GaussianBlur(edit.request.pixels, (0, 0), 2)
    blurred = replace(outcome, images=[soft], reconstructed=edit.request.pixels)
    (made,) = finished_images(blurred, edit.finishing)
    (left,) = finished_images(blurred, replace(edit.finishing, repair="none"))
    assert made.report is not None and made.report.repaired == ("sharpened",)
    assert "result_sharpened" in made.warnings and "result_sharpened" not in left.warnings
    for picture in (made, left):
        assert np.array_equal(picture.pixels[mask == 0], photograph("coffee")[mask == 0])


def test_where_an_edit_was_comes_back_as_a_mask_that_can_be_sent_again(
    pocket64: EditActor,
) -> None:
    (made,) = finished(pocket64, [asked("a", "coffee", pocket64.spec, return_mask=True)])
    assert made.edited is not None and made.edited.shape == made.pixels.shape[:2]
    (kept,) = finished(
        pocket64, [asked("a", "coffee", pocket64.spec, return_mask=True, preserve="auto")]
    )
    assert kept.edited is not None and np.array_equal(kept.edited, made.edited)
    if not kept.warnings:
        stays = kept.edited == 0
        assert np.array_equal(kept.pixels[stays], photograph("coffee")[stays])
    (again,) = finished(
        pocket64,
        [asked("a", "coffee", pocket64.spec, draw_mask("box", (600, 400)), return_mask=True)],
    )
    assert again.edited is not None and not again.edited[draw_mask("box", (600, 400)) == 0].any()
    assert np.array_equal(decode_mask(encode_mask(again.edited), (600, 400)), again.edited)


def test_each_of_several_images_is_finished(pocket64: EditActor) -> None:
    made = finished(pocket64, [asked("a", "coffee", pocket64.spec, num_images=3, preserve="auto")])
    assert len({one.pixels.tobytes() for one in made}) == 3
    assert {one.pixels.shape for one in made} == {photograph("coffee").shape}


def test_a_jpeg_is_compared_with_what_it_decodes_to(pocket64: EditActor) -> None:
    source = jpeg(photograph("rocket"))
    height, width = photograph("rocket").shape[:2]
    mask = draw_mask("ring", (width, height))
    options = pocket64.spec.resolve(EditOptions(num_inference_steps=1), 0)
    files = Source(source, openai_mask(mask))
    edit = prepare("a", files, "make it night", options, pocket64.spec)
    (made,) = finished(pocket64, [edit])
    kept = mask == 0
    assert np.array_equal(made.pixels[kept], np.asarray(decode(source).image)[kept])


def test_a_mask_whose_clear_part_is_cropped_away_is_refused(pocket64: EditActor) -> None:
    mask = np.zeros(photograph("coffee").shape[:2], np.uint8)
    mask[:, :20] = 255
    with pytest.raises(MaskInvalid, match="outside of what the model is shown"):
        asked("a", "coffee", pocket64.spec, mask, resize="crop")
