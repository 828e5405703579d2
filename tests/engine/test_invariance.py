"""Who joins when, where, and with what cannot change a byte: random histories, compared bitwise."""

from __future__ import annotations

import io
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from PIL import Image

from engine import EditOptions, EngineConfig
from engine.capacity import Capacity
from engine.edit import EditFailure, EditRequest, EditResult
from engine.loading import load_model
from engine.loop import DenoiseLoop
from engine.models import Conditioning
from engine.models.instruct_pix2pix import InstructPix2Pix
from engine.options import Determinism
from engine.sources import Prepared, Source, prepare
from engine.spec import ModelSpec
from tests.editors import poisoned
from tests.engine.company import in_random_company
from tests.engine.test_loop import pixels, run

EditOf = Callable[..., Prepared]
SAMPLES = 4


class Poisonous(InstructPix2Pix):
    """The source of "poison" is NaN; whoever shares a model call with it must not notice."""

    def encode(self, requests: Sequence[EditRequest]) -> list[Conditioning]:
        return [
            poisoned(conditioning) if request.instruction == "poison" else conditioning
            for request, conditioning in zip(requests, super().encode(requests), strict=True)
        ]


class Counting(InstructPix2Pix):
    """Counts the sources that it encodes."""

    encoded = 0

    def _encode_images(self, pixels: object) -> torch.Tensor:
        Counting.encoded += len(pixels)  # type: ignore[arg-type]
        return super()._encode_images(pixels)  # type: ignore[arg-type]


def loop_of(spec: ModelSpec, determinism: Determinism, editor: str = "Poisonous") -> DenoiseLoop:
    named = replace(spec, editor=f"{__name__}:{editor}")
    loaded = load_model(named, EngineConfig())
    return DenoiseLoop(loaded.editor, Capacity(SAMPLES), determinism=determinism)


def neighbours_of(edit_of: EditOf, draw: random.Random) -> Iterator[EditRequest]:
    """Two or three rows each, every other one poison, each gone after a few steps."""
    for i in itertools.count():
        yield edit_of(
            "coffee",
            draw.choice(["poison", "add fog"]),
            id=f"neighbour-{i}",
            seed=i,
            num_inference_steps=draw.randint(2, 5),
            image_guidance_scale=draw.choice([1.0, 1.3]),
            scheduler=draw.choice(["ddim", "euler_ancestral"]),
        ).request


@pytest.mark.slow
@pytest.mark.parametrize("companies", [2, pytest.param(8, marks=pytest.mark.chaos)])
@pytest.mark.parametrize("determinism", ["bucket", "strict"])
def test_random_neighbours_joining_at_random_steps_change_no_byte(
    edit_of: EditOf, pocket: ModelSpec, determinism: Determinism, companies: int
) -> None:
    """In `bucket` every call is padded to 12 rows: the subject's 3 and 6 to 9 of three others."""
    loop = loop_of(pocket, determinism)
    subject = edit_of("coffee", "make it blue", id="subject", num_inference_steps=5, seed=3).request
    seen = {
        in_random_company(
            loop, subject, neighbours_of(edit_of, random.Random(seed)), samples=SAMPLES, seed=seed
        )
        for seed in range(companies)
    }
    assert len(seen) == 1
    assert (loop.counters.branches_padded > 0) == (determinism == "bucket")
    if determinism == "strict":
        assert seen == set(pixels(run(loop, [subject])["subject"]))


def test_poison_is_poison(edit_of: EditOf, pocket: ModelSpec) -> None:
    """The neighbours above really are NaN."""
    outcome = run(loop_of(pocket, "seeded"), [edit_of("coffee", "poison", id="p").request])["p"]
    assert isinstance(outcome, EditFailure) and outcome.code == "non_finite"


def test_a_source_that_was_met_lately_is_not_encoded_again(
    edit_of: EditOf, pocket: ModelSpec
) -> None:
    loop = loop_of(pocket, "strict", "Counting")
    night, fog = (edit_of("coffee", text, id=text, seed=1).request for text in ("night", "fog"))
    other = edit_of("astronaut", "fog", id="other", seed=1).request
    first = run(loop, [night])
    Counting.encoded = 0
    again = run(loop, [replace(night, id="again"), fog])
    assert Counting.encoded == 0
    run(loop, [other])
    assert Counting.encoded == 1
    assert pixels(again["again"]) == pixels(first["night"])
    assert pixels(again["fog"]) != pixels(again["again"])


def test_blank_pictures_of_different_shapes_are_different_sources(pocket: ModelSpec) -> None:
    """Their bytes are the same: a white wall wide, and a white wall high."""
    loop = loop_of(pocket, "strict")
    options = pocket.resolve(EditOptions(num_inference_steps=1), seed=1)
    for width, height in ((64, 32), (32, 64)):
        wall = io.BytesIO()
        Image.new("RGB", (width, height), "white").save(wall, "PNG")
        sized = options.model_copy(update={"size": f"{width}x{height}"})
        request = prepare("wall", Source(wall.getvalue()), "add fog", sized, pocket).request
        outcome = run(loop, [request])["wall"]
        assert isinstance(outcome, EditResult)
        assert outcome.images[0].shape == (height, width, 3)
