"""A sampler's table does what diffusers' scheduler does, for every number of steps."""

from __future__ import annotations

import json
import math
from typing import Any, get_args

import pytest
import torch
from diffusers import EDMEulerScheduler, FlowMatchEulerDiscreteScheduler

from engine.errors import OptionInvalid
from engine.options import Scheduler
from engine.packing import MAX_SLOTS
from engine.sampling import SamplerTable, Schedule, advance
from engine.scheduler_tables import SamplerTables
from engine.schedulers import SCHEDULERS
from tests.conftest import POCKET

FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
EDM = {"_class_name": "EDMEulerScheduler", "sigma_max": 120.0, "sigma_data": 1.0}  # CosXL's
OTHER_KINDS = ("flow_match_euler", "edm_euler")  # of models


def pocket_config(**changes: Any) -> dict[str, Any]:
    return {**json.loads((POCKET / "scheduler" / "scheduler_config.json").read_text()), **changes}


def step(table: SamplerTable, k: int, state: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    coefficients = (table.carry[k : k + 1], table.gain[k : k + 1], table.spread[k : k + 1])
    return advance(state, output, torch.zeros_like(output), *coefficients)


def test_every_scheduler_that_has_a_name_has_a_class() -> None:
    assert set(SCHEDULERS) == set(get_args(Scheduler))


def test_flow_matching_is_that_of_diffusers() -> None:
    for shift in (1.0, 3.0):
        config = {**FLOW, "shift": shift}
        for steps in (1, 4, 28):
            table = SamplerTables(config).table(None, Schedule(steps))
            reference = FlowMatchEulerDiscreteScheduler.from_config(config)
            reference.set_timesteps(steps)
            draw = torch.Generator().manual_seed(0)
            x = torch.randn((1, 4, 8, 8), generator=draw)
            state = x[:, None]
            assert table.timesteps.tolist() == reference.timesteps.tolist()
            for k, t in enumerate(reference.timesteps):
                output = torch.randn(x.shape, generator=draw)
                x = reference.step(output, t, x, return_dict=False)[0]
                state = step(table, k, state, output)
            assert torch.allclose(state[:, 0], x, atol=1e-6)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("sigma_schedule", ["karras", "exponential"])
def test_an_edm_is_that_of_diffusers(sigma_schedule: str, prediction_type: str) -> None:
    """Its times are logarithms: most of them are below zero."""
    config = {**EDM, "sigma_schedule": sigma_schedule, "prediction_type": prediction_type}
    for steps in (1, 4, 28):
        table = SamplerTables(config).table(None, Schedule(steps))
        reference = EDMEulerScheduler.from_config(config)
        reference.set_timesteps(steps)
        draw = torch.Generator().manual_seed(0)
        x = torch.randn((1, 4, 8, 8), generator=draw) * reference.init_noise_sigma
        state = table.start.noise * x[:, None] / reference.init_noise_sigma
        assert table.timesteps.tolist() == reference.timesteps.tolist()
        for k, t in enumerate(reference.timesteps):
            output = torch.randn(x.shape, generator=draw)
            scaled = reference.scale_model_input(x, t)
            assert torch.allclose(table.input_scale[k] * state[:, 0], scaled, rtol=1e-5, atol=1e-5)
            x = reference.step(output, t, x, return_dict=False)[0]
            state = step(table, k, state, output)
        assert torch.allclose(state[:, 0], x, rtol=1e-5, atol=1e-5)


def test_a_model_does_not_take_the_samplers_of_another_kind() -> None:
    with pytest.raises(OptionInvalid, match="a diffusion; use ddim"):
        SamplerTables(pocket_config()).table("flow_match_euler", Schedule(4))
    with pytest.raises(OptionInvalid, match="a flow; use flow_match_euler"):
        SamplerTables(FLOW).table("ddim", Schedule(4))
    with pytest.raises(OptionInvalid, match="an EDM; use edm_euler"):
        SamplerTables(EDM).table("euler", Schedule(4))
    with pytest.raises(OptionInvalid, match="a diffusion; use ddim"):
        SamplerTables(pocket_config()).table("edm_euler", Schedule(4))


def test_an_edm_whose_own_sampler_is_not_known_falls_back_to_one_of_its_kind() -> None:
    tables = SamplerTables({**EDM, "_class_name": "EDMDPMSolverMultistepScheduler"})
    assert tables.default == "edm_euler"
    assert tables.table(None, Schedule(4)).timesteps[0] == pytest.approx(0.25 * math.log(120.0))


@pytest.mark.parametrize("change", [{"clip_sample": True}, {"thresholding": True}])
def test_a_sampler_that_is_not_linear_is_refused_and_not_the_default(
    change: dict[str, bool], caplog: pytest.LogCaptureFixture
) -> None:
    tables = SamplerTables(pocket_config(**change))
    assert tables.default == "euler_ancestral"
    assert "cannot be a table" in caplog.text
    with pytest.raises(OptionInvalid, match="use euler_ancestral"):
        tables.table("ddim", Schedule(20))
    assert tables.table(None, Schedule(20)).stochastic


def test_every_number_of_steps_ends_at_the_image() -> None:
    """Trailing spacing yields a timestep of -1 at 61, 103, 121 and 122 steps."""
    tables = SamplerTables(pocket_config())
    for steps in (1, 2, 3, 7, 11, 50, 61, 100):
        for name in ("ddim", "euler_ancestral", "unipc"):
            table = tables.table(name, Schedule(steps))
            assert table.num_calls == steps
            assert table.timesteps.min() >= 0
            assert torch.isfinite(table.carry).all() and torch.isfinite(table.gain).all()


def test_no_sampler_keeps_more_than_a_step_of_a_whole_batch_has_room_for() -> None:
    tables = SamplerTables(pocket_config(steps_offset=1, timestep_spacing="leading"))
    diffusions = [name for name in get_args(Scheduler) if name not in OTHER_KINDS]
    slots = {name: tables.table(name, Schedule(20)).num_slots for name in diffusions}
    assert max(slots.values()) == MAX_SLOTS, slots


def test_noise_is_drawn_only_where_the_sampler_asks_for_it() -> None:
    tables = SamplerTables(pocket_config())
    stochastic = {
        name
        for name in get_args(Scheduler)
        if name not in ("pndm", *OTHER_KINDS) and tables.table(name, Schedule(10)).stochastic
    }
    assert stochastic == {"euler_ancestral"}
    last = tables.table("euler_ancestral", Schedule(10)).spread[-1, 0]
    assert last == 0  # it adds none


def test_a_sample_does_not_depend_on_its_place_or_neighbours_in_a_step() -> None:
    table = SamplerTables(pocket_config()).table("unipc", Schedule(5))
    draw = torch.Generator().manual_seed(0)
    state = torch.randn((4, table.num_slots, 2, 4, 4), generator=draw)
    output = torch.randn((4, 2, 4, 4), generator=draw)
    rows = [
        getattr(table, name)[2].expand(4, *getattr(table, name).shape[1:])
        for name in ("carry", "gain", "spread")
    ]
    together = advance(state, output, torch.zeros_like(output), *rows)
    for i in range(4):
        own = (tensor[i : i + 1] for tensor in (state, output, torch.zeros_like(output), *rows))
        alone = advance(*own)
        assert torch.equal(together[i : i + 1], alone)
