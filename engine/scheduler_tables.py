"""Reads a sampler's table from diffusers' scheduler, by letting it step over basis vectors.

So the tables follow upstream; a scheduler that turns out not to be linear is refused.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_args

import numpy as np
import torch

from engine.errors import OptionInvalid
from engine.options import Scheduler
from engine.sampling import Mix, SamplerTable, Schedule, advance
from engine.schedulers import (
    SCHEDULERS,
    SPARE,
    begin_run,
    clean_mix,
    init_sigma,
    kind_of,
    make_scheduler,
    noise_levels,
    scale_input,
    step_once,
)

logger = logging.getLogger(__name__)

EXAMPLE = Schedule(4)  # few steps, and more than any sampler remembers but PNDM
MAX_TABLES = 1024  # kept: a family's `mu` makes one for each canvas and step count

_UNIT = 2.0**60  # basis vectors are this long, so a scheduler's own noise rounds away beside them
_NOISE_FLOOR = 1e-12  # 4096 (the largest sigma) x 5 deviations / 2^60 = 2e-14 is left of noise
_WIDTH = 12  # 1 latent + 10 memory slots + 1 output; PNDM remembers 5 at most
_TOLERANCE = 1e-3


class SamplerTables:
    """The tables of one model, read from its scheduler configuration; each is built once."""

    def __init__(self, scheduler_config: dict[str, Any], example: Schedule = EXAMPLE) -> None:
        """Choose the default sampler: the model's own where it can run `example`, a schedule as
        the family makes them."""
        self._config = scheduler_config
        self._build = lru_cache(maxsize=MAX_TABLES)(self._build_table)
        self._kind = kind_of(str(scheduler_config.get("_class_name")))
        self._spare = SPARE[self._kind]
        self.default: Scheduler = self._spare
        self.default = self._choose_default(example)

    def table(self, name: Scheduler | None, schedule: Schedule) -> SamplerTable:
        """Return the table of sampler `name` (`None`: the model's own) on this schedule.

        Raises `OptionInvalid` where this model's configuration does not give a linear map.
        """
        return self._build(name or self.default, schedule)

    def _choose_default(self, example: Schedule) -> Scheduler:
        wanted = self._config.get("_class_name")
        for name in get_args(Scheduler):
            if SCHEDULERS[name][0] == wanted:
                try:
                    self._build(name, example)
                    return name
                except OptionInvalid:
                    break
        logger.warning(
            "the model's scheduler %s cannot be a table: its default is %s", wanted, self._spare
        )
        return self._spare

    def _build_table(self, name: Scheduler, schedule: Schedule) -> SamplerTable:
        if kind_of(SCHEDULERS[name][0]) != self._kind:
            raise OptionInvalid(
                f"scheduler {name} does not fit this model, which is {self._kind}; use "
                f"{self.default}",
                param="scheduler",
            )
        try:
            with np.errstate(all="ignore"):  # a level that is not a number is refused below
                table = _read_table(name, self._config, schedule)
                error = _deviation(table, make_scheduler(name, self._config), schedule)
        except (ValueError, IndexError, ZeroDivisionError, RuntimeError) as problem:
            logger.debug("%s at %s: %s", name, schedule, problem)
            error = math.nan
        if not error < _TOLERANCE:
            steps = schedule.num_inference_steps
            other = "ask for more steps" if name == self._spare else f"use {self._spare}"
            raise OptionInvalid(
                f"scheduler {name} does not work with this model at {steps} steps (too few, or its "
                f"configuration clips samples or divides by zero); {other}",
                param="scheduler",
            )
        return table


def _read_table(name: Scheduler, config: dict[str, Any], schedule: Schedule) -> SamplerTable:
    """Step once over basis vectors; a twin steps over zeros, so what comes out of it is noise.

    The columns of a step's map are its inputs (latents, slots, output), the rows what it makes
    (latents, slots): column j is the step over basis vector j.
    """
    scheduler, twin = make_scheduler(name, config), make_scheduler(name, config)
    times = begin_run(scheduler, schedule)
    begin_run(twin, schedule)
    scales, maps, spreads = [], [], []
    slots: list[Slot] = []
    for t in times:
        scales.append(float(scale_input(scheduler, _basis(0), t)[0, 0]) / _UNIT)
        scale_input(twin, _basis(0), t)
        spreads.append(_noise_gain(twin, t))
        for index, slot in enumerate(slots):
            slot.write(scheduler, _basis(1 + index))
        stepped = scheduler.step(_basis(_WIDTH - 1), t, _basis(0), return_dict=False)[0]
        slots = _find_slots(scheduler)
        vectors = [stepped, *(slot.read(scheduler) for slot in slots)]
        step_map = torch.zeros(_WIDTH - 1, _WIDTH, dtype=torch.float64)
        step_map[: len(vectors)] = torch.stack([v.flatten().double() for v in vectors]) / _UNIT
        step_map[step_map.abs() < _NOISE_FLOOR] = 0
        maps.append(step_map)
    levels = _levels(make_scheduler(name, config), schedule, times)
    return _pack(scheduler, times, scales, torch.stack(maps), spreads, levels)


def _levels(scheduler: Any, schedule: Schedule, times: list[torch.Tensor]) -> list[Mix]:
    """The level of the first latents, then the one after each step; the last is the source."""
    scheduler.set_timesteps(**schedule.arguments())
    first, *later = noise_levels(scheduler, times)
    start = first if schedule.begin is not None else Mix(0.0, init_sigma(scheduler))
    return [start, *later, Mix(1.0, 0.0)]


def _pack(
    scheduler: Any,
    times: list[torch.Tensor],
    scales: list[float],
    maps: torch.Tensor,
    spreads: list[float],
    levels: list[Mix],
) -> SamplerTable:
    """maps (K, rows, inputs): the last input is the model's output; slots nobody reads go."""
    read = maps[:, :, : _WIDTH - 1].ne(0).any(dim=1).any(dim=0)  # NaN counts as read
    size = 1 + max((i for i, used in enumerate(read.tolist()) if used), default=0)
    spread = torch.zeros(len(times), size)
    spread[:, 0] = torch.tensor(spreads)
    return SamplerTable(
        timesteps=torch.tensor([float(t) for t in times]),
        input_scale=torch.tensor(scales, dtype=torch.float32),
        carry=maps[:, :size, :size].float().contiguous(),
        gain=maps[:, :size, _WIDTH - 1].float().contiguous(),
        spread=spread,
        clean=torch.tensor([clean_mix(scheduler, float(t)) for t in times]),
        known=torch.tensor(levels[1:]),
        start=levels[0],
        stochastic=any(spreads),
    )


@dataclass(frozen=True, slots=True)
class Slot:
    """A place where a scheduler remembers a tensor: an attribute, or one entry of a list."""

    attribute: str
    index: int | None

    def read(self, scheduler: Any) -> torch.Tensor:
        """Return the tensor that is remembered there."""
        value = getattr(scheduler, self.attribute)
        return value if self.index is None else value[self.index]

    def write(self, scheduler: Any, vector: torch.Tensor) -> None:
        """Put `vector` in its place."""
        if self.index is None:
            setattr(scheduler, self.attribute, vector)
        else:
            getattr(scheduler, self.attribute)[self.index] = vector


def _find_slots(scheduler: Any) -> list[Slot]:
    def is_memory(value: object) -> bool:
        return isinstance(value, torch.Tensor) and value.shape == (1, _WIDTH, 1, 1)

    slots = []
    for attribute, value in vars(scheduler).items():
        if is_memory(value):
            slots.append(Slot(attribute, None))
        elif isinstance(value, list):
            slots += [Slot(attribute, i) for i, entry in enumerate(value) if is_memory(entry)]
    return slots


def _basis(index: int) -> torch.Tensor:
    vector = torch.zeros(1, _WIDTH, 1, 1, dtype=torch.float64)
    vector[0, index] = _UNIT
    return vector


def _noise_gain(twin: Any, t: torch.Tensor) -> float:
    """The factor on fresh noise: what a step over zeros makes of known noise."""
    zeros = torch.zeros(1, _WIDTH, 1, 1)
    known = torch.randn(zeros.shape, generator=torch.Generator().manual_seed(0))
    stepped = step_once(twin, zeros, t, zeros, torch.Generator().manual_seed(0))
    largest = known.abs().argmax()
    return float(stepped.flatten()[largest] / known.flatten()[largest])


def _deviation(table: SamplerTable, scheduler: Any, schedule: Schedule) -> float:
    """The largest relative difference from the scheduler itself, over a run on random tensors."""
    draw, noise = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    own_noise = torch.Generator().manual_seed(2)
    times = begin_run(scheduler, schedule)
    x = torch.randn((1, 2, 4, 4), generator=draw) * init_sigma(scheduler)
    state = torch.zeros(1, table.num_slots, 2, 4, 4)
    state[:, 0] = x
    worst, zeros = 0.0, torch.zeros(x.shape)
    for k, t in enumerate(times):
        output = torch.randn(x.shape, generator=draw)
        scale_input(scheduler, x, t)
        x = step_once(scheduler, output, t, x, noise)
        fresh = torch.randn(x.shape, generator=own_noise) if table.stochastic else zeros
        coefficients = (table.carry[k : k + 1], table.gain[k : k + 1], table.spread[k : k + 1])
        state = advance(state, output, fresh, *coefficients)
        difference = float((state[:, 0] - x).abs().max() / x.abs().max().clamp(min=1e-6))
        worst = difference if not difference <= worst else worst
    return worst
