"""Requests on their way, and the images of them that are being denoised."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from engine.control_window import ControlWindow
from engine.edit import EditRequest, EditResult
from engine.errors import InternalError
from engine.lane import Lane
from engine.models import Conditioning, ContractBroken, Inputs
from engine.sampling import SamplerTable
from engine.seeding import NoiseSource, image_seed

DEFAULT_DEADLINE_S = 300.0  # the longest deadline that the API grants


@dataclass(slots=True, eq=False)
class Sample:
    """One image being denoised."""

    live: LiveRequest
    index: int  # of the request's images
    table: SamplerTable
    conditioning: Conditioning
    noise: NoiseSource
    state: torch.Tensor  # (S, C, h, w) float32: latents, then the sampler's memory
    source: torch.Tensor | None  # (C, h, w) float32: where it must stay, and what it began from
    first: torch.Tensor  # (C, h, w) float32, the first noise
    window: ControlWindow
    calls_done: int = 0
    error: BaseException | None = None
    _fresh: torch.Tensor | None = None

    def step_noise(self) -> torch.Tensor:
        """Return the current step's noise: drawn once, however often the step is tried."""
        if self._fresh is None:
            stochastic = self.table.stochastic
            self._fresh = self.noise.draw() if stochastic else torch.zeros(self.state.shape[1:])
        return self._fresh

    def move(self, state: torch.Tensor) -> None:
        """Go on to the state (S or more, C, h, w) after the current step."""
        self.state = state[: self.table.num_slots]
        self.calls_done += 1
        self._fresh = None

    def fail(self, error: BaseException) -> None:
        """End here: no step follows."""
        self.error = error

    @property
    def controlled(self) -> bool:
        """True where the current model call is in the edit's control window."""
        return self.window.holds(self.calls_done, self.table.num_calls)

    @property
    def rows(self) -> Sequence[Inputs]:
        """Return the model's inputs of each branch, for the current model call."""
        outside = self.conditioning.outside
        return self.conditioning.rows if self.controlled or not outside else outside

    @property
    def finished(self) -> bool:
        """True when no step is left, or one has failed."""
        return self.error is not None or self.calls_done == self.table.num_calls


@dataclass(slots=True, eq=False)
class LiveRequest:
    """A request on its way: waiting until it has `samples`, done when `images` is full."""

    request: EditRequest
    order: int  # of arrival
    warnings: tuple[str, ...]
    calls: int  # of the model, for each image
    arrived: float = field(default_factory=time.monotonic)  # s
    samples: list[Sample] = field(default_factory=list)
    images: dict[int, np.ndarray] = field(default_factory=dict)  # by the index of their sample
    reconstructed: np.ndarray | None = None  # see `EditResult`
    batch_size: int = 0  # the most samples that shared a model call with it
    started: float = 0.0  # s, on the performance counter
    lane: Lane = field(init=False)

    def __post_init__(self) -> None:
        self.lane = Lane.of(self.request)

    @property
    def deadline(self) -> float:
        """The time in s, on the monotonic clock, from which nobody waits for it any more."""
        timeout = self.request.timeout_s
        return math.inf if timeout is None else self.arrived + timeout

    @property
    def latest(self) -> float:
        """The time in s by which it is wanted: of none the longest deadline that there is."""
        return min(self.deadline, self.arrived + DEFAULT_DEADLINE_S)

    @property
    def images_left(self) -> int:
        """Count its images that are not denoised yet."""
        if not self.samples:
            return self.request.options.num_images
        return sum(not sample.finished for sample in self.samples)

    @property
    def work_left(self) -> int:
        """Count the pixels of the model calls that are left of it."""
        calls = self.calls * self.request.options.num_images
        return self.lane.area_px * (calls - sum(sample.calls_done for sample in self.samples))

    @property
    def error(self) -> BaseException | None:
        """The first fault of its samples."""
        return next((s.error for s in self.samples if s.error is not None), None)

    def start(self, conditioning: Conditioning, table: SamplerTable, device: torch.device) -> None:
        """Make the samples, each with its own noise: all of them or, where one does not fit in
        memory, none. Raises `InternalError` where the family lost the request's mask."""
        if self.request.mask is not None and conditioning.mask is None:
            raise InternalError("this model's family keeps no mask: edit without one")
        count = self.request.options.num_images
        self.samples = [self._sample(k, conditioning, table, device) for k in range(count)]
        self.started = time.perf_counter()

    def _sample(
        self, index: int, conditioning: Conditioning, table: SamplerTable, device: torch.device
    ) -> Sample:
        """Draw as diffusers does: the source's posterior first, then the noise."""
        shape, source = conditioning.latent_shape, conditioning.source
        seed = image_seed(self.request.options.seed, index)
        noise = NoiseSource(seed, shape, conditioning.pictures)
        if source is not None and conditioning.deviation is not None:
            source = source + conditioning.deviation * noise.draw().to(device)
        first = noise.draw()
        state = torch.zeros((table.num_slots, *first.shape))
        state[0] = first * table.start.noise
        state, first = state.to(device), first.to(device)
        if table.start.source:
            if source is None:
                raise ContractBroken("a schedule that begins at the source needs its latents")
            state[0] += source * table.start.source
        window = ControlWindow.of(self.request.options)
        return Sample(self, index, table, conditioning, noise, state, source, first, window)

    def result(self) -> EditResult:
        """Return the outcome of a request whose images are all there."""
        options = self.request.options
        return EditResult(
            id=self.request.id,
            images=[self.images[k] for k in range(options.num_images)],
            seeds=[image_seed(options.seed, k) for k in range(options.num_images)],
            warnings=self.warnings,
            batch_size=self.batch_size,
            model_s=time.perf_counter() - self.started,
            understood_as=self.samples[0].conditioning.understood_as,
            reconstructed=self.reconstructed,
            instruction_used=self.request.instruction if self.request.is_translated else None,
        )
