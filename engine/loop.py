"""DenoiseLoop: samples join and leave a running batch at step boundaries.

Each step takes the requests of one lane whose turn it is, and whose adapter is at hand; lets those
of them that wait join, makes the model calls that the determinism level allows, and moves every
sample one step along its own sampler table. Single-threaded; the actor owns the thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count

import torch

from engine.adapters import Adapters
from engine.capacity import Capacity
from engine.control_window import ControlWindow
from engine.counters import LoopCounters
from engine.decoding import Decoder
from engine.edit import EditFailure, EditOutcome, EditRequest
from engine.errors import Cancelled, DeadlineExceeded
from engine.graphs import GraphedSteps
from engine.guidance import BRANCHES
from engine.isolation import isolate
from engine.lane import Lane
from engine.models import Editor
from engine.options import Determinism
from engine.pacing import LaunchPacer
from engine.packing import Packer
from engine.previews import PartialImage, show_partial_images
from engine.reconstruction import Reconstructions
from engine.samples import LiveRequest, Sample
from engine.sampling import SamplerTable
from engine.scheduler_tables import SamplerTables
from engine.step import Call, Denoiser, Step, StepResult
from engine.turns import Turns

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]  # request id, model calls done, model calls in all


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who is told how far edits are, from the denoising thread: it must be quick."""

    progress: Progress | None = None
    partial_image: PartialImage | None = None


class DenoiseLoop:
    """Denoises requests: `admit` them, `step` until `idle`; a step returns what it ended."""

    def __init__(
        self,
        editor: Editor,
        capacity: Capacity,
        *,
        determinism: Determinism = "seeded",
        cuda_graphs: bool = False,
        adapters: Adapters | None = None,
        watcher: Watcher = Watcher(),
    ) -> None:
        self.counters = LoopCounters()
        self._editor = editor
        self._tables = SamplerTables(editor.scheduler_config, editor.example)
        self._capacity = capacity
        self._determinism = determinism
        self._watcher = watcher
        self._adapters = adapters or Adapters(editor)
        self._decoder = Decoder(editor, determinism)
        self._reconstructions = Reconstructions(editor)
        self._packer = Packer(editor, determinism, whole=cuda_graphs)
        self._turns = Turns()
        # What a call packs stays the same while its samples do, and are `controlled` or not.
        self._last_calls: dict[Hashable, Call] = {}
        self._calls_now: dict[Hashable, Call] = {}
        self._compute: Callable[[Step], StepResult] = Denoiser(editor, self._adapters)
        if cuda_graphs:
            self._compute = GraphedSteps(self._compute, capacity.reserve)
        self._pacer = LaunchPacer(editor.device)
        self._order = count()
        self._waiting: list[LiveRequest] = []
        self._running: list[LiveRequest] = []

    @property
    def idle(self) -> bool:
        """True while no request waits or runs."""
        return not self._waiting and not self._running

    def check(self, request: EditRequest) -> tuple[str, ...]:
        """Return a request's warnings; raises `RequestError` for what cannot be done."""
        self._editor.spec.check_sources(1 + len(request.references))
        self._adapters.check(request.adapter)
        ControlWindow.of(request.options).check(self._table(request).num_calls)
        return tuple(self._editor.check(request))

    def admit(self, request: EditRequest, warnings: Iterable[str] = ()) -> None:
        """Queue a checked request; it joins its lane at the next step with room."""
        calls = self._table(request).num_calls
        self._waiting.append(LiveRequest(request, next(self._order), tuple(warnings), calls))

    def cancel(self, ids: set[str]) -> list[EditOutcome]:
        """Drop these requests at this boundary; their branches are not computed any more."""
        gone = [live for live in self._waiting + self._running if live.request.id in ids]
        self._forget(gone)
        cancelled = Cancelled("the edit was cancelled by its caller")
        return [EditFailure.of(live.request.id, cancelled) for live in gone]

    @torch.inference_mode()
    def step(self) -> list[EditOutcome]:
        """Take one denoising step of one lane; returns the outcomes that it completed.

        Raises `ContractBroken` where the family gave what cannot be computed with.
        """
        now = time.monotonic()
        expired = self._expire(now)
        if self.idle:
            return expired
        ready = self._ready()
        if not ready:
            self._adapters.wait()
            return expired
        turn = self._turns.next(ready, self._capacity.samples)
        lane = turn[0].lane
        failures = expired + self._join(lane, [live for live in turn if not live.samples], now)
        samples = self._samples_of(turn)
        self.counters.steps += 1
        self._last_calls, self._calls_now = self._calls_now, {}
        for group in self._calls(lane, samples):
            isolate(self._denoise, group, Sample.fail, partial(self._shrink, lane))
        self._pacer.launched()
        self._report(samples)
        self._decoder.decode(lane, [s for s in samples if s.finished and s.error is None])
        took_s = time.monotonic() - now
        self.counters.busy_s += took_s
        self.counters.lora_loads = self._adapters.loads
        self._turns.count(len(samples) * lane.area_px, took_s)
        return failures + self._collect()

    def _ready(self) -> list[LiveRequest]:
        """The requests whose adapter is at hand; the others' are being read."""
        lives = self._waiting + self._running
        return [live for live in lives if self._adapters.is_ready(live.lane.adapter)]

    def _expire(self, now: float) -> list[EditOutcome]:
        """Give up what is past its deadline: nobody waits for it any more."""
        late = [live for live in self._waiting + self._running if live.deadline < now]
        self._forget(late)
        error = DeadlineExceeded("the edit was not done in time; ask for fewer steps or images")
        return [EditFailure.of(live.request.id, error) for live in late]

    def _join(self, lane: Lane, joining: Sequence[LiveRequest], now: float) -> list[EditOutcome]:
        """Start waiting requests of the lane; returns what failed."""
        failures: list[EditOutcome] = []

        def fail(live: LiveRequest, error: BaseException) -> None:
            failures.append(EditFailure.of(live.request.id, error))
            self._forget([live])

        size = self._decoder.max_pictures(lane)
        for start in range(0, len(joining), size):
            isolate(self._start, joining[start : start + size], fail)
        self.counters.wait_s += sum(now - live.arrived for live in joining)
        return failures

    def _samples_of(self, turn: Sequence[LiveRequest]) -> list[Sample]:
        """The samples of a turn that are left, in the order in which they joined."""
        return [s for live in self._running if live in turn for s in live.samples if not s.finished]

    def _shrink(self, lane: Lane, size: int) -> None:
        self._capacity.shrink(lane, size)
        self.counters.out_of_memory += 1

    def _start(self, starting: Sequence[LiveRequest]) -> None:
        if (adapter := starting[0].lane.adapter) is not None:
            self._adapters.hold(adapter)
        conditionings = self._editor.encode([live.request for live in starting])
        for live, conditioning in zip(starting, conditionings, strict=True):
            live.start(conditioning, self._table(live.request), self._editor.device)
        self._reconstructions.reconstruct(starting)
        self._waiting = [live for live in self._waiting if live not in starting]
        self._running += starting

    def _table(self, request: EditRequest) -> SamplerTable:
        return self._tables.table(request.options.scheduler, self._editor.schedule(request))

    def _calls(self, lane: Lane, samples: list[Sample]) -> list[list[Sample]]:
        """The samples of each model call: those of one layout, as many as fit together, or in
        `strict` one each."""
        size = 1 if self._determinism == "strict" else self._capacity.samples(lane)
        groups = self._packer.groups(samples)
        return [g[start : start + size] for g in groups for start in range(0, len(g), size)]

    def _denoise(self, samples: Sequence[Sample]) -> None:
        """One model call and one sampler step of these samples; all or none of them advance."""
        key = tuple((sample, sample.controlled) for sample in samples)
        call = self._last_calls.get(key) or self._packer.pack_call(samples)
        with self._capacity.measured(samples[0].live.lane, len(samples)):
            result = self._compute(self._packer.pack_step(samples, call))
        self._calls_now[key] = call
        for sample, state in zip(samples, result.state, strict=False):  # the rest is padding
            sample.move(state)
            sample.live.batch_size = max(sample.live.batch_size, len(samples))
        whole = len(samples) * len(BRANCHES[self._editor.spec.guidance])
        self.counters.count_call(len(call.owner) - call.padding, whole, call.padding)
        if self._watcher.partial_image is not None:
            show_partial_images(self._editor, self._watcher.partial_image, samples, result)

    def _report(self, samples: Sequence[Sample]) -> None:
        if self._watcher.progress is None:
            return
        for sample in samples:
            try:
                self._watcher.progress(
                    sample.live.request.id, sample.calls_done, sample.table.num_calls
                )
            except Exception:  # who watches must not stop the work
                logger.exception("the progress callback failed")

    def _collect(self) -> list[EditOutcome]:
        """The outcomes of requests that are complete or have failed."""
        outcomes: list[EditOutcome] = []
        done = []
        for live in self._running:
            if live.error is not None:
                outcomes.append(EditFailure.of(live.request.id, live.error))
            elif len(live.images) == len(live.samples):
                outcomes.append(live.result())
            else:
                continue
            done.append(live)
        self._forget(done)
        return outcomes

    def _forget(self, lives: Iterable[LiveRequest]) -> None:
        gone = {id(live) for live in lives}
        self._waiting = [live for live in self._waiting if id(live) not in gone]
        self._running = [live for live in self._running if id(live) not in gone]
        if self.idle:
            self._last_calls, self._calls_now = {}, {}
            self._adapters.apply(None, None)
