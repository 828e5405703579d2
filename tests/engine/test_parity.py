"""The same weights, image, noise and parameters give diffusers' picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image

from engine import EditActor, EditOptions, EngineConfig
from engine.edit import EditRequest, EditResult
from engine.registry import find_model
from engine.schedulers import make_scheduler
from engine.spec import ModelSpec
from tests.conftest import PHOTOGRAPHS, POCKET, photograph

INSTRUCTIONS = ("make it night", "turn it into a pencil sketch", "make it blue", "add fog")
SCALES = ((7.5, 1.5), (3.0, 1.2), (5.0, 1.3), (7.5, 1.5))
# PNDM divides by zero at zero terminal SNR
EVERYWHERE = ("ddim", "euler", "euler_ancestral", "heun", "dpmpp_2m", "dpmpp_2m_karras", "unipc")
SEEDS = (7, 8, 9, 4294967295)


class Twins:
    """One folder of weights behind diffusers' pipeline and behind rayedit."""

    def __init__(self, folder: Path, spec: ModelSpec) -> None:
        self.spec = spec
        self.actor = EditActor(EngineConfig(determinism="seeded", dtype="float32"), spec)
        self.pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(
            folder, safety_checker=None, dtype=torch.float32
        )
        self.pipeline.set_progress_bar_config(disable=True)
        self.config = dict(self.pipeline.scheduler.config)
        torch.set_num_threads(self.actor.config.threads)

    def diffusers(self, request: EditRequest) -> np.ndarray:
        options = request.options
        self.pipeline.scheduler = make_scheduler(options.scheduler, self.config)
        image = self.pipeline(
            request.instruction,
            image=Image.fromarray(request.pixels),
            num_inference_steps=options.num_inference_steps,
            guidance_scale=options.guidance_scale,
            image_guidance_scale=options.image_guidance_scale,
            generator=torch.Generator("cpu").manual_seed(options.seed),
        ).images[0]
        return np.asarray(image)

    def rayedit(self, requests: list[EditRequest]) -> list[np.ndarray]:
        outcomes = self.actor.edit_batch(requests)
        failures = [outcome for outcome in outcomes if not isinstance(outcome, EditResult)]
        assert not failures
        return [outcome.images[0] for outcome in outcomes]

    def requests(
        self, scales: tuple[tuple[float, float], ...], **options: Any
    ) -> list[EditRequest]:
        side = self.spec.resolution
        return [
            EditRequest(
                f"{name}-{i}",
                np.asarray(Image.fromarray(photograph(name)).resize((side, side))),
                INSTRUCTIONS[i],
                self.spec.resolve(
                    EditOptions(guidance_scale=text, image_guidance_scale=image, **options),
                    seed=SEEDS[i],
                ),
            )
            for i, (name, (text, image)) in enumerate(zip(PHOTOGRAPHS, scales, strict=True))
        ]


@pytest.fixture(scope="module")
def pocket_twins() -> Iterator[Twins]:
    twins = Twins(POCKET, find_model("pocket", resolution=64))
    yield twins
    twins.actor.close()


@pytest.fixture(scope="module")
def sd15_twins(tiny: Callable[[str], Path]) -> Iterator[Twins]:
    folder = tiny("instruct-pix2pix")
    twins = Twins(folder, find_model(str(folder)))
    yield twins
    twins.actor.close()


def largest_difference(left: np.ndarray, right: np.ndarray) -> int:
    return int(np.abs(left.astype(int) - right.astype(int)).max())


@pytest.mark.parametrize("num_inference_steps", [4, pytest.param(20, marks=pytest.mark.chaos)])
@pytest.mark.parametrize("scheduler", EVERYWHERE)
def test_pocket_edits_are_those_of_diffusers(
    pocket_twins: Twins, scheduler: str, num_inference_steps: int
) -> None:
    check(pocket_twins, scheduler, num_inference_steps)


@pytest.mark.parametrize("num_inference_steps", [4, 20])
@pytest.mark.parametrize("scheduler", [*EVERYWHERE, "pndm"])
def test_sd15_edits_are_those_of_diffusers(
    sd15_twins: Twins, scheduler: str, num_inference_steps: int
) -> None:
    check(sd15_twins, scheduler, num_inference_steps)


def check(twins: Twins, scheduler: str, num_inference_steps: int) -> None:
    """Alone at (7.5, 1.5) and (3, 1.2), then as one of four with other photographs and scales."""
    options = {"scheduler": scheduler, "num_inference_steps": num_inference_steps}
    batch = twins.requests(SCALES, **options)
    expected = [twins.diffusers(request) for request in batch]
    assert len({image.tobytes() for image in expected}) == len(expected)
    for request, image in list(zip(batch, expected, strict=True))[:2]:
        assert largest_difference(twins.rayedit([request])[0], image) <= 1
    for edited, image in zip(twins.rayedit(batch), expected, strict=True):
        assert largest_difference(edited, image) <= 1


def test_samplers_steps_and_scales_of_every_kind_share_a_batch(sd15_twins: Twins) -> None:
    for plans in (
        [("ddim", 7), ("euler", 4), ("euler_ancestral", 9), ("pndm", 5)],
        [("unipc", 9), ("dpmpp_2m", 6), ("heun", 3), ("dpmpp_2m_karras", 8)],
    ):
        requests = [
            sd15_twins.requests(SCALES, scheduler=scheduler, num_inference_steps=steps)[i]
            for i, (scheduler, steps) in enumerate(plans)
        ]
        expected = [sd15_twins.diffusers(request) for request in requests]
        calls = sd15_twins.actor.counters.calls
        for edited, image in zip(sd15_twins.rayedit(requests), expected, strict=True):
            assert largest_difference(edited, image) <= 1
        assert sd15_twins.actor.counters.calls - calls <= 10  # together, not 25 alone
