"""Reads a sampler's table from diffusers' scheduler, by letting it step over basis vectors.

So the tables follow upstream; a scheduler that turns out not to be linear is refused.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_args

import torch

from engine.errors import OptionInvalid
from engine.options import Scheduler
from engine.sampling import SamplerTable, advance

logger = logging.getLogger(__name__)

# name -> (diffusers class, settings on top of the model's own configuration)
SCHEDULERS: dict[Scheduler, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "pndm": ("PNDMScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "flow_match_euler": ("FlowMatchEulerDiscreteScheduler", {}),
}

_UNIT = 2.0**60  # basis vectors are this long, so a scheduler's own noise rounds away beside them
_NOISE_FLOOR = 1e-12  # 4096 (the largest sigma) x 5 deviations / 2^60 = 2e-14 is left of noise
_WIDTH = 12  # 1 latent + 10 memory slots + 1 output; PNDM remembers 5 at most
_TOLERANCE = 1e-3


class SamplerTables:
    """The tables of one model, read from its scheduler configuration; each is built once."""

    def __init__(self, scheduler_config: dict[str, Any]) -> None:
        self._config = scheduler_config
        self.default: Scheduler = "euler_ancestral"
        self._build = lru_cache(maxsize=256)(self._build_table)
        self.default = self._choose_default()

    def table(self, name: Scheduler | None, num_inference_steps: int) -> SamplerTable:
        """The table of sampler `name` (`None`: the model's own).

        Raises `OptionInvalid` where this model's configuration does not give a linear map.
        """
        return self._build(name or self.default, num_inference_steps)

    def _choose_default(self) -> Scheduler:
        wanted = self._config.get("_class_name")
        for name in get_args(Scheduler):
            if SCHEDULERS[name][0] == wanted:
                try:
                    self._build(name, 4)
                    return name
                except OptionInvalid:
                    break
        logger.warning(
            "the model's scheduler %s cannot be a table: its default is euler_ancestral", wanted
        )
        return "flow_match_euler" if str(wanted).startswith("FlowMatch") else "euler_ancestral"

    def _build_table(self, name: Scheduler, num_inference_steps: int) -> SamplerTable:
        is_flow = str(self._config.get("_class_name")).startswith("FlowMatch")
        if (name == "flow_match_euler") != is_flow:
            kind = "a flow" if is_flow else "no flow"
            raise OptionInvalid(
                f"scheduler {name} does not fit this model, which is {kind}; use {self.default}",
                param="scheduler",
            )
        try:
            table = _probe(name, self._config, num_inference_steps)
            error = _deviation(table, make_scheduler(name, self._config), num_inference_steps)
        except (ValueError, IndexError, ZeroDivisionError) as problem:
            logger.debug("%s at %d steps: %s", name, num_inference_steps, problem)
            error = math.nan
        if not error < _TOLERANCE:
            raise OptionInvalid(
                f"scheduler {name} does not work with this model at {num_inference_steps} steps "
                "(too few, or its configuration clips samples or divides by zero); "
                "use euler_ancestral",
                param="scheduler",
            )
        return table


def make_scheduler(name: Scheduler, config: dict[str, Any]) -> Any:
    """diffusers' scheduler object of this name for a model's scheduler configuration."""
    class_name, settings = SCHEDULERS[name]
    cls = getattr(importlib.import_module("diffusers"), class_name)
    return cls.from_config({**config, **settings})


def _probe(name: Scheduler, config: dict[str, Any], num_inference_steps: int) -> SamplerTable:
    """Step once over basis vectors; a twin steps over zeros, so what comes out of it is noise."""
    scheduler, twin = make_scheduler(name, config), make_scheduler(name, config)
    scheduler.set_timesteps(num_inference_steps)
    twin.set_timesteps(num_inference_steps)
    times = [t for t in scheduler.timesteps if t >= 0]  # trailing spacing may end in -1
    scales, maps, spreads = [], [], []
    slots: list[Slot] = []
    for t in times:
        scales.append(float(_scale_input(scheduler, _basis(0), t)[0, 0]) / _UNIT)
        _scale_input(twin, _basis(0), t)
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
    return _pack(scheduler, times, scales, torch.stack(maps), spreads)


def _pack(
    scheduler: Any,
    times: list[torch.Tensor],
    scales: list[float],
    maps: torch.Tensor,
    spreads: list[float],
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
        clean=torch.tensor([_clean_map(scheduler, float(t)) for t in times]),
        init_sigma=_init_sigma(scheduler),
        stochastic=any(spreads),
    )


@dataclass(frozen=True, slots=True)
class Slot:
    """A place where a scheduler remembers a tensor: an attribute, or one entry of a list."""

    attribute: str
    index: int | None

    def read(self, scheduler: Any) -> torch.Tensor:
        value = getattr(scheduler, self.attribute)
        return value if self.index is None else value[self.index]

    def write(self, scheduler: Any, vector: torch.Tensor) -> None:
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


def _scale_input(scheduler: Any, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """What the model is shown of `x`; flow-matching schedulers show it as it is."""
    scale = getattr(scheduler, "scale_model_input", None)
    return x if scale is None else scale(x, t)


def _clean_map(scheduler: Any, t: float) -> tuple[float, float]:
    """The factors on the scaled input z and the output o whose sum is the clean latents, with
    z = sqrt(a) clean + sqrt(1 - a) noise; of a flow, z = (1 - s) clean + s noise."""
    if not hasattr(scheduler, "alphas_cumprod"):
        return 1.0, -t / scheduler.config.num_train_timesteps
    alphas = scheduler.alphas_cumprod.double()
    low = min(int(t), len(alphas) - 1)
    a = float(torch.lerp(alphas[low], alphas[min(low + 1, len(alphas) - 1)], t - int(t)))
    if scheduler.config.prediction_type == "v_prediction":
        return math.sqrt(a), -math.sqrt(1 - a)
    if scheduler.config.prediction_type == "sample":
        return 0.0, 1.0
    return a**-0.5, -(((1 - a) / a) ** 0.5)


def _init_sigma(scheduler: Any) -> float:
    return float(getattr(scheduler, "init_noise_sigma", 1.0))


def _noise_gain(twin: Any, t: torch.Tensor) -> float:
    """The factor on fresh noise: what a step over zeros makes of known noise."""
    zeros = torch.zeros(1, _WIDTH, 1, 1)
    known = torch.randn(zeros.shape, generator=torch.Generator().manual_seed(0))
    stepped = _step(twin, zeros, t, zeros, torch.Generator().manual_seed(0))
    largest = known.abs().argmax()
    return float(stepped.flatten()[largest] / known.flatten()[largest])


def _step(
    scheduler: Any, output: torch.Tensor, t: torch.Tensor, x: torch.Tensor, noise: torch.Generator
) -> torch.Tensor:
    takes_noise = "generator" in inspect.signature(scheduler.step).parameters
    extra = {"generator": noise} if takes_noise else {}
    return scheduler.step(output, t, x, return_dict=False, **extra)[0]


def _deviation(table: SamplerTable, scheduler: Any, num_inference_steps: int) -> float:
    """The largest relative difference from the scheduler itself, over a run on random tensors."""
    draw, noise = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    own_noise = torch.Generator().manual_seed(2)
    scheduler.set_timesteps(num_inference_steps)
    x = torch.randn((1, 2, 4, 4), generator=draw) * _init_sigma(scheduler)
    state = torch.zeros(1, table.num_slots, 2, 4, 4)
    state[:, 0] = x
    worst, zeros = 0.0, torch.zeros(x.shape)
    for k, t in enumerate(scheduler.timesteps[: table.num_calls]):
        output = torch.randn(x.shape, generator=draw)
        _scale_input(scheduler, x, t)
        x = _step(scheduler, output, t, x, noise)
        fresh = torch.randn(x.shape, generator=own_noise) if table.stochastic else zeros
        coefficients = (table.carry[k : k + 1], table.gain[k : k + 1], table.spread[k : k + 1])
        state = advance(state, output, fresh, *coefficients)
        difference = float((state[:, 0] - x).abs().max() / x.abs().max().clamp(min=1e-6))
        worst = difference if not difference <= worst else worst
    return worst
