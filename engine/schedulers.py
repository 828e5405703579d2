"""diffusers' schedulers by our names, and the questions that a table is read with.

Every difference between their interfaces stands here.
"""

from __future__ import annotations

import importlib
import inspect
import math
from typing import Any, Literal

import torch

from engine.options import Scheduler
from engine.sampling import Mix, Schedule

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
    "edm_euler": ("EDMEulerScheduler", {}),
}


Kind = Literal["a diffusion", "a flow", "an EDM"]

# The sampler of each kind that works wherever one does.
SPARE: dict[Kind, Scheduler] = {
    "a diffusion": "euler_ancestral",
    "a flow": "flow_match_euler",
    "an EDM": "edm_euler",
}


def kind_of(class_name: str) -> Kind:
    """Tell from its class what a scheduler is made for: their models, levels and times differ.

    EDM: Karras et al. 2022, preconditioned; the time is a quarter of the level's logarithm.
    """
    if class_name.startswith("FlowMatch"):
        return "a flow"
    return "an EDM" if class_name.startswith("EDM") else "a diffusion"


def make_scheduler(name: Scheduler, config: dict[str, Any]) -> Any:
    """Make diffusers' scheduler of this name for a model's scheduler configuration."""
    class_name, settings = SCHEDULERS[name]
    cls = getattr(importlib.import_module("diffusers"), class_name)
    return cls.from_config({**config, **settings})


def begin_run(scheduler: Any, schedule: Schedule) -> list[torch.Tensor]:
    """Set the scheduler to the schedule's first step; returns the timesteps of the run.

    Raises what `set_timesteps` raises, such as `ValueError` for a missing `mu`.
    """
    scheduler.set_timesteps(**schedule.arguments())
    first = (schedule.begin or 0) * scheduler.order  # a scheduler of order 2 has two calls a step
    if first and hasattr(scheduler, "set_begin_index"):  # PNDM has none, and needs none
        scheduler.set_begin_index(first)
    times = list(scheduler.timesteps[first:])
    if hasattr(scheduler, "alphas_cumprod"):  # whose trailing spacing may end in -1
        return [t for t in times if t >= 0]
    return times


def scale_input(scheduler: Any, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Return what the model is shown of `x`; flow-matching schedulers show it as it is."""
    scale = getattr(scheduler, "scale_model_input", None)
    return x if scale is None else scale(x, t)


def step_once(
    scheduler: Any, output: torch.Tensor, t: torch.Tensor, x: torch.Tensor, noise: torch.Generator
) -> torch.Tensor:
    """Step from `x` under the model's `output`; a scheduler that draws noise draws from `noise`."""
    takes_noise = "generator" in inspect.signature(scheduler.step).parameters
    extra = {"generator": noise} if takes_noise else {}
    return scheduler.step(output, t, x, return_dict=False, **extra)[0]


def init_sigma(scheduler: Any) -> float:
    """Return the factor on the noise that a run begins with."""
    return float(getattr(scheduler, "init_noise_sigma", 1.0))


def noise_levels(scheduler: Any, times: list[torch.Tensor]) -> list[Mix]:
    """Read how the scheduler mixes source and noise at each of these timesteps.

    `scheduler`: set to the schedule, but to no step of it.
    """
    at, one = torch.stack(times), torch.ones(len(times), 1, 1, 1)
    zero = torch.zeros_like(one)
    if hasattr(scheduler, "scale_noise"):  # a flow's order of arguments is another
        mixed = [scheduler.scale_noise(x, at, n) for x, n in ((one, zero), (zero, one))]
    else:
        mixed = [scheduler.add_noise(x, n, at) for x, n in ((one, zero), (zero, one))]
    return [Mix(*pair) for pair in zip(*(m.flatten().tolist() for m in mixed), strict=True)]


def clean_mix(scheduler: Any, t: float) -> tuple[float, float]:
    """Return the factors on the scaled input z and the output whose sum is the clean latents.

    z = sqrt(a) clean + sqrt(1 - a) noise; of a flow, z = (1 - s) clean + s noise.
    """
    if hasattr(scheduler, "precondition_outputs"):
        return _edm_clean_mix(scheduler, math.exp(4 * t))
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


def _edm_clean_mix(scheduler: Any, sigma: float) -> tuple[float, float]:
    """Of an EDM, whose scaled input is (clean + `sigma` noise) times a factor."""
    one, zero = torch.ones(()), torch.zeros(())
    scaled = float(scheduler.precondition_inputs(one, sigma))
    return (
        float(scheduler.precondition_outputs(one, zero, sigma)) / scaled,
        float(scheduler.precondition_outputs(zero, one, sigma)),
    )
