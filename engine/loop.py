"""DenoiseLoop: samples join and leave a running batch at step boundaries.

Each step takes the lane of the most urgent sample, lets waiting samples of that lane join, makes
the model calls that the determinism level allows, and moves every sample one step along its own
sampler table. Single-threaded; the actor owns the thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from itertools import count

import torch

from engine.capacity import Capacity, Lane
from engine.counters import LoopCounters
from engine.edit import EditFailure, EditOutcome, EditRequest
from engine.errors import Cancelled, DeadlineExceeded, NonFinite
from engine.graphs import GraphedSteps
from engine.isolation import isolate
from engine.models import Editor
from engine.options import Determinism
from engine.previews import PartialImage, show_partial_images
from engine.probing import SamplerTables
from engine.samples import Job, Sample
from engine.step import Pace, Step, Stepped, denoise, pack_rows, pack_step

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]  # request id, model calls done, model calls in all

PIXELS_TOGETHER = 512 * 512  # one picture of this size fills a GPU, and takes GBs to decode


class DenoiseLoop:
    """`admit` requests, `step` until `idle`; each step returns the outcomes it finished."""

    def __init__(
        self,
        editor: Editor,
        capacity: Capacity,
        *,
        determinism: Determinism = "seeded",
        cuda_graphs: bool = False,
        progress: Progress | None = None,
        partial_image: PartialImage | None = None,
    ) -> None:
        self.counters = LoopCounters()
        self._editor = editor
        self._tables = SamplerTables(editor.scheduler_config)
        self._capacity = capacity
        self._determinism = determinism
        self._progress = progress
        self._partial_image = partial_image
        self._whole = cuda_graphs
        padded = cuda_graphs or determinism == "bucket"
        self._rows = lru_cache(maxsize=capacity.max_batch_size)(partial(pack_rows, padded=padded))
        self._compute: Callable[[Step], Stepped] = partial(denoise, editor.predict)
        if cuda_graphs:
            self._compute = GraphedSteps(editor.predict)
        self._pace = Pace(editor.device)
        self._order = count()
        self._waiting: list[Job] = []
        self._running: list[Job] = []

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._running

    def check(self, request: EditRequest) -> tuple[str, ...]:
        """Warnings; raises `RequestError` for what cannot be done."""
        self._tables.table(request.options.scheduler, request.options.num_inference_steps or 1)
        return tuple(self._editor.check(request))

    def admit(self, request: EditRequest, warnings: Iterable[str] = ()) -> None:
        """Queue a checked request; it joins its lane at the next step with room."""
        self._waiting.append(Job(request, next(self._order), tuple(warnings)))

    def cancel(self, ids: set[str]) -> list[EditOutcome]:
        """Drop these requests at this boundary; their rows are not computed any more."""
        gone = [job for job in self._waiting + self._running if job.request.id in ids]
        self._forget(gone)
        cancelled = Cancelled("the edit was cancelled by its caller")
        return [EditFailure.of(job.request.id, cancelled) for job in gone]

    @torch.inference_mode()
    def step(self) -> list[EditOutcome]:
        """One denoising step of one lane; returns the outcomes that it completed."""
        now = time.monotonic()
        expired = self._expire(now)
        if self.idle:
            return expired
        lane = min(self._waiting + self._running, key=lambda job: job.urgency).lane
        failures = expired + self._join(lane, now)
        live = self._live(lane)
        self.counters.steps += 1
        for group in self._calls(lane, live):
            isolate(self._denoise, group, _mark, partial(self._shrink, lane))
        self._pace.mark()
        self._report(live)
        self._decode(lane, [s for s in live if s.finished and s.error is None])
        self.counters.busy_s += time.monotonic() - now
        return failures + self._collect()

    def _expire(self, now: float) -> list[EditOutcome]:
        """Give up what is past its deadline: nobody waits for it any more."""
        late = [job for job in self._waiting + self._running if job.deadline < now]
        self._forget(late)
        error = DeadlineExceeded("the edit was not done in time; ask for fewer steps or images")
        return [EditFailure.of(job.request.id, error) for job in late]

    def _join(self, lane: Lane, now: float) -> list[EditOutcome]:
        """Let waiting requests of the lane join while there is room, the most urgent first."""
        room = self._capacity.samples(lane) - len(self._live(lane))
        joining: list[Job] = []
        for job in sorted(self._waiting, key=lambda job: job.urgency):
            if job.lane == lane and room > 0:
                joining.append(job)
                room -= job.request.options.num_images
        failures: list[EditOutcome] = []

        def fail(job: Job, error: BaseException) -> None:
            failures.append(EditFailure.of(job.request.id, error))
            self._forget([job])

        size = self._pictures_together(lane)
        for start in range(0, len(joining), size):
            isolate(self._start, joining[start : start + size], fail)
        self.counters.wait_s += sum(now - job.arrived for job in joining)
        return failures

    def _live(self, lane: Lane) -> list[Sample]:
        samples = (s for job in self._running if job.lane == lane for s in job.samples)
        return [sample for sample in samples if not sample.finished]

    def _shrink(self, lane: Lane, size: int) -> None:
        self._capacity.shrink(lane, size)
        self.counters.out_of_memory += 1

    def _start(self, jobs: Sequence[Job]) -> None:
        conditionings = self._editor.encode([job.request for job in jobs])
        for job, conditioning in zip(jobs, conditionings, strict=True):
            options = job.request.options
            table = self._tables.table(options.scheduler, options.num_inference_steps or 1)
            job.start(conditioning, table, self._editor.device)
        for job in jobs:
            self._waiting.remove(job)
            self._running.append(job)

    def _calls(self, lane: Lane, live: list[Sample]) -> list[list[Sample]]:
        """The samples of each model call: as many as fit together, or in `strict` one each."""
        size = 1 if self._determinism == "strict" else self._capacity.samples(lane)
        return [live[start : start + size] for start in range(0, len(live), size)]

    def _denoise(self, samples: Sequence[Sample]) -> None:
        """One model call and one sampler step of these samples; all or none of them advance."""
        rows = self._rows(tuple(samples))
        with self._capacity.measured(samples[0].job.lane, len(samples)):
            stepped = self._compute(pack_step(samples, rows, whole=self._whole))
        for sample, state in zip(samples, stepped.state, strict=False):  # the rest is padding
            sample.move(state)
            sample.job.batch_size = max(sample.job.batch_size, len(samples))
        self.counters.count_call(len(samples), len(rows.owner), rows.padding)
        if self._partial_image is not None:
            show_partial_images(self._editor, self._partial_image, samples, stepped)

    def _report(self, samples: Sequence[Sample]) -> None:
        if self._progress is None:
            return
        for sample in samples:
            try:
                self._progress(sample.job.request.id, sample.calls_done, sample.table.num_calls)
            except Exception:  # who watches must not stop the work
                logger.exception("the progress callback failed")

    def _decode(self, lane: Lane, samples: Sequence[Sample]) -> None:
        """Images of finished samples; one that fails, fails alone."""
        size = self._pictures_together(lane)
        for start in range(0, len(samples), size):
            group = samples[start : start + size]
            isolate(self._decode_together, group, self._decode_in_float32)

    def _decode_together(self, samples: Sequence[Sample], *, float32: bool = False) -> None:
        latents = torch.stack([sample.state[0] for sample in samples])
        if not torch.isfinite(latents).all():
            raise NonFinite("the model produced NaN or infinity for this image")
        images = self._editor.decode(latents, float32=float32)
        for sample, image in zip(samples, images, strict=True):
            sample.job.images[sample.index] = image

    def _pictures_together(self, lane: Lane) -> int:
        """Pictures that the encoder and the decoder take at a time: one, but for small ones."""
        small = PIXELS_TOGETHER // (lane[0] * lane[1])
        return max(small, 1) if self._determinism == "seeded" else 1

    def _decode_in_float32(self, sample: Sample, error: BaseException) -> None:
        """The one retry of an image that left half precision's range."""
        if isinstance(error, NonFinite):
            isolate(partial(self._decode_together, float32=True), [sample], _mark)
        else:
            sample.error = error

    def _collect(self) -> list[EditOutcome]:
        """The outcomes of jobs that are complete or have failed."""
        outcomes: list[EditOutcome] = []
        done = []
        for job in self._running:
            if job.error is not None:
                outcomes.append(EditFailure.of(job.request.id, job.error))
            elif len(job.images) == len(job.samples):
                outcomes.append(job.result())
            else:
                continue
            done.append(job)
        self._forget(done)
        return outcomes

    def _forget(self, jobs: Iterable[Job]) -> None:
        gone = {id(job) for job in jobs}
        self._waiting = [job for job in self._waiting if id(job) not in gone]
        self._running = [job for job in self._running if id(job) not in gone]
        if self.idle:
            self._rows.cache_clear()


def _mark(sample: Sample, error: BaseException) -> None:
    sample.error = error
