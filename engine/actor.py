"""EditActor: one model, loaded once, behind both doors."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Self

import torch

from engine.capacity import Capacity
from engine.config import EngineConfig
from engine.counters import LoopCounters
from engine.edit import EditFailure, EditOutcome, EditRequest, EditResult
from engine.errors import InternalError, NotReady
from engine.isolation import exit_if_the_device_is_dead
from engine.loading import LoadedModel, load_adapters, load_model, use_device
from engine.loop import DenoiseLoop, Progress, Watcher
from engine.memory import Memory, memory_of
from engine.previews import PartialImage
from engine.recipe import engine_words
from engine.spec import ModelSpec
from engine.translation import Translation, make_translator
from engine.tries import Tries


class EditActor:
    """Run one model for many callers, who may be of any thread.

    `submit` returns a future for each request and never raises for one; `edit_batch` waits.

    One thread owns the device. What is queued joins the running batch at the next step boundary;
    nothing ever waits for a batch to fill.
    """

    def __init__(
        self,
        config: EngineConfig | None = None,
        spec: ModelSpec | None = None,
        progress: Progress | None = None,
        partial_image: PartialImage | None = None,
    ) -> None:
        """Load the model; raises `ModelError`. `spec` stands in for `config.model`.

        `progress` and `partial_image` are called from the denoising thread: they must be quick.
        """
        self.config = config or EngineConfig()
        self.spec = spec or self.config.find_model()
        self._changed = threading.Condition()
        self._inbox: list[EditRequest] = []
        self._cancelled: set[str] = set()
        self._futures: dict[str, Future[EditOutcome]] = {}
        self._closing = False
        ready: Future[LoadedModel] = Future()
        start = partial(self._run, ready, progress, partial_image)
        self._thread = threading.Thread(target=start, name="denoise", daemon=True)
        self._thread.start()
        self.revision = ready.result().revision

    @property
    def counters(self) -> LoopCounters:
        """Counts of the work done so far."""
        return self._loop.counters

    @property
    def loras(self) -> tuple[str, ...]:
        """Names of the styles whose LoRA is on the device."""
        return self._adapters.held

    @property
    def alive(self) -> bool:
        """True while the denoising thread works and takes requests."""
        return self._thread.is_alive() and not self._closing

    @property
    def in_flight(self) -> int:
        """Requests that have no outcome yet."""
        return len(self._futures)

    def submit(self, requests: Sequence[EditRequest]) -> list[Future[EditOutcome]]:
        """Queue requests; returns a future of each, in order.

        Its result is an `EditResult` or an `EditFailure`, and it never raises.

        A request id may be in flight only once.
        """
        return [self._submit(request) for request in requests]

    def edit_batch(self, requests: Sequence[EditRequest]) -> list[EditOutcome]:
        """Edit `requests` and wait; returns their outcomes, in order."""
        return [future.result() for future in self.submit(requests)]

    def cancel(self, id: str) -> None:
        """Drop this request at the next step boundary; its future resolves as `cancelled`."""
        with self._changed:
            self._cancelled.add(id)
            self._changed.notify()

    def close(self) -> None:
        """Finish what runs, refuse what comes, end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _submit(self, request: EditRequest) -> Future[EditOutcome]:
        future: Future[EditOutcome] = Future()
        future.set_running_or_notify_cancel()  # from here `cancel(id)` alone can end it
        with self._changed:
            error: Exception | None = None
            if self._closing or not self._thread.is_alive():
                error = NotReady("this worker is shutting down; send the edit again")
            elif request.id in self._futures:
                error = InternalError(f"request id {request.id} is already in flight")
            else:
                self._futures[request.id] = future
                self._inbox.append(request)
                self._changed.notify()
        if error is not None:
            future.set_result(EditFailure.of(request.id, error))
        return future

    def _run(
        self,
        ready: Future[LoadedModel],
        progress: Progress | None,
        partial_image: PartialImage | None,
    ) -> None:
        """All that uses torch runs here, loading and checking too: where a second thread of the
        process has computed, OpenMP counts more threads than processors, lets them sleep at every
        barrier, and a step on a CPU takes a fifth longer (docs/decisions.md)."""
        try:
            torch.set_num_threads(self.config.threads)  # a thread has a count of its own
            loaded = load_model(self.spec, self.config)
            use_device(loaded.editor.device)  # and a current device
            self._adapters = load_adapters(loaded, self.config)
            translator = make_translator(self.config, self.spec)
            self._translation = Translation(translator, self.spec, self._arrive)
            self._words = engine_words(self.config, self.spec, loaded.revision)
            self._tries = Tries(loaded.editor)
            self._loop = DenoiseLoop(
                loaded.editor,
                Capacity(self.config.max_batch_size, loaded.calibration, _memory_to_watch(loaded)),
                determinism=self.config.determinism,
                cuda_graphs=self.config.cuda_graphs,
                adapters=self._adapters,
                watcher=Watcher(progress, partial_image),
            )
        except BaseException as error:
            ready.set_exception(error)
            return
        ready.set_result(loaded)
        self._work()

    def _work(self) -> None:
        error: BaseException = NotReady("this worker is shutting down; send the edit again")
        try:
            while self._take():
                for outcome in self._loop.step():
                    self._settle(outcome)
        except BaseException as caught:
            exit_if_the_device_is_dead(caught)
            error = caught
            raise
        finally:
            self._fail_all(error)

    def _take(self) -> bool:
        """Move what arrived into the loop; waits while there is nothing; False at the end."""
        with self._changed:
            while not (self._inbox or not self._loop.idle or self._closing):
                self._cancelled &= self._futures.keys()
                if self._cancelled:  # of one that is being translated
                    break
                self._changed.wait()
            arrived, self._inbox = self._inbox, []
            cancelled, self._cancelled = self._cancelled, set()
        for request in arrived:
            self._admit(request)
        if cancelled:
            self._tries.forget(cancelled)
            for outcome in (*self._translation.cancel(cancelled), *self._loop.cancel(cancelled)):
                self._resolve(outcome)
        with self._changed:
            return bool(self._inbox) or not (self._closing and self._loop.idle)

    def _arrive(self, request: EditRequest | EditFailure) -> None:
        """Take a request that was translated, or the failure of that, of any thread."""
        if isinstance(request, EditFailure):
            self._resolve(request)
            return
        with self._changed:
            self._inbox.append(request)
            self._changed.notify()

    def _admit(self, request: EditRequest) -> None:
        if self._translation.takes(request):
            return
        try:
            warnings = self._loop.check(request)
            self._loop.admit(self._tries.begin(request), warnings)
        except Exception as error:  # a fault of this request must not reach its mates
            self._settle(EditFailure.of(request.id, error))

    def _settle(self, outcome: EditOutcome) -> None:
        """End a request, or admit its next try."""
        settled = self._tries.settle(outcome)
        if isinstance(settled, EditRequest):
            self._admit(settled)
        else:
            self._resolve(settled)

    def _resolve(self, outcome: EditOutcome) -> None:
        if isinstance(outcome, EditResult):
            outcome = replace(outcome, engine_words=self._words)
        with self._changed:
            future = self._futures.pop(outcome.id, None)
        if future is not None:  # a translation may end after all has
            future.set_result(outcome)

    def _fail_all(self, error: BaseException) -> None:
        """No future stays open: what is in flight fails, what comes later is refused."""
        self._translation.close()
        with self._changed:
            self._closing = True
            futures, self._futures = self._futures, {}
        for id, future in futures.items():
            if not future.done():
                future.set_result(EditFailure.of(id, error))


def _memory_to_watch(loaded: LoadedModel) -> Memory | None:
    """A GPU's always; a machine's, which is seldom short, only beside a calibration's figures."""
    device = loaded.editor.device
    return memory_of(device) if device.type == "cuda" or loaded.calibration else None
