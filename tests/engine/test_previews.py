"""Partial images show what is coming, and cost the edit nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine import EditActor, EngineConfig
from engine.edit import EditOutcome, EditRequest, EditResult
from engine.options import Scheduler
from engine.sampling import Schedule
from engine.scheduler_tables import SamplerTables
from engine.schedulers import make_scheduler
from engine.sources import Prepared
from engine.spec import ModelSpec

EditOf = Callable[..., Prepared]
Shown = list[tuple[str, int, np.ndarray]]


def edit(spec: ModelSpec, *requests: EditRequest) -> tuple[list[EditOutcome], Shown]:
    shown: Shown = []
    show = lambda *seen: shown.append(seen)  # noqa: E731
    with EditActor(EngineConfig(), spec, partial_image=show) as actor:
        return actor.edit_batch(requests), shown


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other).mean())


@pytest.mark.parametrize(
    "scheduler", ["ddim", "euler", "euler_ancestral", "dpmpp_2m_karras", "unipc", "heun"]
)
def test_partial_images_come_nearer_and_nearer_to_the_edited_image(
    edit_of: EditOf, pocket: ModelSpec, scheduler: Scheduler
) -> None:
    """Also of samplers whose latents carry a scale of their own."""
    request = edit_of(
        "coffee", "make it night", num_inference_steps=12, scheduler=scheduler, seed=5
    ).request
    (outcome,), shown = edit(pocket, replace(request, partial_images=3))
    assert isinstance(outcome, EditResult)
    assert [(id, k) for id, k, _ in shown] == [(request.id, k) for k in range(3)]
    away = [distance(image, outcome.images[0]) for _, _, image in shown]
    assert away[-1] < away[0] * 0.9
    assert away[-1] < distance(request.pixels, outcome.images[0]) / 2


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("scheduler", ["ddim", "euler", "euler_ancestral", "edm_euler"])
def test_the_guess_is_the_one_of_diffusers(scheduler: Scheduler, prediction: str) -> None:
    config = {"prediction_type": prediction, "clip_sample": False, "timestep_spacing": "trailing"}
    kind = "EDMEulerScheduler" if scheduler == "edm_euler" else "DDIMScheduler"
    config = {"_class_name": kind, "beta_schedule": "scaled_linear", **config}
    table = SamplerTables(config).table(scheduler, Schedule(7))
    theirs = make_scheduler(scheduler, config)
    theirs.set_timesteps(7)
    x, output = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for k, t in enumerate(theirs.timesteps):
        scaled = theirs.scale_model_input(x, t) if hasattr(theirs, "scale_model_input") else x
        expected = theirs.step(output, t, x).pred_original_sample
        shown, predicted = table.clean[k].tolist()
        torch.testing.assert_close(shown * scaled + predicted * output, expected)


def test_partial_images_change_no_byte_of_the_edit(edit_of: EditOf, pocket: ModelSpec) -> None:
    plain = edit_of("chelsea", "add fog", num_inference_steps=4, seed=1).request
    (unwatched,), nothing = edit(pocket, plain)
    (watched,), shown = edit(pocket, replace(plain, partial_images=2))
    assert isinstance(watched, EditResult) and isinstance(unwatched, EditResult)
    assert watched.images[0].tobytes() == unwatched.images[0].tobytes()
    assert (len(nothing), len(shown)) == (0, 2)


def test_fewer_steps_than_partial_images_show_each_step_once(
    edit_of: EditOf, pocket: ModelSpec
) -> None:
    request = edit_of("coffee", "add fog", num_inference_steps=2, seed=1).request
    _, shown = edit(pocket, replace(request, partial_images=3))
    assert [k for _, k, _ in shown] == [0]


def test_a_partial_image_that_fails_costs_nobody_the_edit(
    edit_of: EditOf, pocket: ModelSpec
) -> None:
    """And is shown to nobody twice: the good one comes first, in the same model calls."""
    spec = replace(pocket, editor="tests.engine.test_invariance:Poisonous")
    good = replace(edit_of("coffee", "add fog", id="good").request, partial_images=3)
    bad = replace(edit_of("coffee", "poison", id="bad").request, partial_images=3)
    outcomes, shown = edit(spec, good, bad)
    assert [type(outcome).__name__ for outcome in outcomes] == ["EditResult", "EditFailure"]
    assert [(id, k) for id, k, _ in shown] == [("good", k) for k in range(3)]
