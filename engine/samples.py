"""What the loop holds: jobs (requests on their way) and their samples."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import numpy as np
import torch

from engine.edit import EditRequest, EditResult
from engine.guidance import branch_weights
from engine.models import Conditioning, Inputs
from engine.sampling import SamplerTable
from engine.seeding import NoiseSource, image_seed

PATIENCE_S = 300.0  # the longest deadline that the API grants


@dataclass(slots=True, eq=False)
class Sample:
    """One image being denoised.

    `state` (S, C, h, w) float32: latents, then the sampler's memory. `rows[j]` are the model's
    inputs for the branch that counts with `weights[j]`.
    """

    job: Job
    index: int
    table: SamplerTable
    noise: NoiseSource
    state: torch.Tensor
    weights: list[float]
    rows: list[Inputs]
    calls_done: int = 0
    error: BaseException | None = None
    _fresh: torch.Tensor | None = None

    def step_noise(self) -> torch.Tensor:
        """The noise of the current step: drawn once, however often the step is tried."""
        if self._fresh is None:
            stochastic = self.table.stochastic
            self._fresh = self.noise.draw() if stochastic else torch.zeros(self.state.shape[1:])
        return self._fresh

    def move(self, state: torch.Tensor) -> None:
        """To the state (S or more, C, h, w) after the current step."""
        self.state = state[: self.table.num_slots]
        self.calls_done += 1
        self._fresh = None

    @property
    def finished(self) -> bool:
        return self.error is not None or self.calls_done == self.table.num_calls


@dataclass(slots=True, eq=False)
class Job:
    """A request on its way: waiting until it has `samples`, done when `images` is full.

    `lane`: the (H, W, 3) of its pixels; samples of one lane can share a model call.
    """

    request: EditRequest
    order: int
    warnings: tuple[str, ...]
    arrived: float = field(default_factory=time.monotonic)
    samples: list[Sample] = field(default_factory=list)
    images: dict[int, np.ndarray] = field(default_factory=dict)
    batch_size: int = 0
    started: float = 0.0

    @property
    def lane(self) -> tuple[int, ...]:
        return self.request.pixels.shape

    @property
    def deadline(self) -> float:
        """When nobody waits for it any more, on the monotonic clock in s."""
        timeout = self.request.timeout_s
        return math.inf if timeout is None else self.arrived + timeout

    @property
    def urgency(self) -> tuple[float, int]:
        """Smallest first. What has no deadline is as urgent as what had `PATIENCE_S` when it came,
        so later arrivals overtake nobody for ever."""
        return min(self.deadline, self.arrived + PATIENCE_S), self.order

    @property
    def error(self) -> BaseException | None:
        return next((s.error for s in self.samples if s.error is not None), None)

    def start(self, conditioning: Conditioning, table: SamplerTable, device: torch.device) -> None:
        """Make the samples, each with its own noise."""
        options = self.request.options
        weights = branch_weights(options.guidance_scale or 0.0, options.image_guidance_scale or 0.0)
        rows = [conditioning.branches[branch] for branch in weights]
        shape = conditioning.latent_shape
        samples = []
        for index in range(options.num_images):
            noise = NoiseSource(image_seed(options.seed or 0, index), shape)
            state = torch.zeros((table.num_slots, *shape))
            state[0] = noise.draw() * table.init_sigma
            sample = Sample(
                self, index, table, noise, state.to(device), list(weights.values()), rows
            )
            samples.append(sample)
        self.samples = samples  # all of them or, where one does not fit, none
        self.started = time.perf_counter()

    def result(self) -> EditResult:
        options = self.request.options
        return EditResult(
            id=self.request.id,
            images=[self.images[k] for k in range(options.num_images)],
            seeds=[image_seed(options.seed or 0, k) for k in range(options.num_images)],
            warnings=self.warnings,
            batch_size=self.batch_size,
            model_s=time.perf_counter() - self.started,
        )
