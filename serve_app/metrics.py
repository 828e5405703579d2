"""What Ray's Prometheus endpoint tells of us; `ray_` stands before every name there."""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge, Histogram

from engine.counters import LoopCounters
from engine.edit import EditOutcome, EditResult
from serve_app.ingress.flights import Flight

SECONDS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 300]
STEP_SECONDS = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]
FILL = [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0]

STAGES = {
    "read": "receiving and parsing the body",
    "decode": "decoding the source, and waiting for a process that does",
    "wait": "from the ingress to the first step, and back from the last",
    "model": "from the first step to the last",
    "encode": "encoding the edited images",
    "total": "the whole request",
}


def requests_counter() -> Counter:
    return Counter("rayedit_requests_total", "edits by how they ended", ("code",))


class IngressMetrics:
    """Of the edits that one ingress replica has ended, and of those that it holds."""

    def __init__(self) -> None:
        self._requests = requests_counter()
        self._stages = {
            name: Histogram(f"rayedit_{name}_seconds", meaning, SECONDS)
            for name, meaning in STAGES.items()
        }
        self._in_flight = Gauge("rayedit_in_flight", "edits that the ingress holds")
        self._queue = Gauge("rayedit_queue_seconds", "how long what is held will take")

    def hold(self, held: int, queue_s: float) -> None:
        self._in_flight.set(held)
        self._queue.set(queue_s)

    def observe(self, flight: Flight) -> None:
        self._requests.inc(tags={"code": flight.code})
        for name, histogram in self._stages.items():
            seconds = getattr(flight, f"{name}_s")
            if seconds:
                histogram.observe(seconds)


class ReplicaMetrics:
    """Of one model replica, from what its loop has counted since the last edit."""

    def __init__(self, max_batch_size: int) -> None:
        self._max_batch_size = max_batch_size
        self._seen = LoopCounters()
        self._images = Counter("rayedit_images_total", "edited images; their rate is images/s")
        self._rows = Counter("rayedit_rows_total", "branch rows that were computed")
        self._saved = Counter("rayedit_rows_saved_total", "branch rows that guidance did not need")
        self._padded = Counter("rayedit_rows_padded_total", "rows that only filled a bucket")
        self._busy = Counter("rayedit_busy_seconds_total", "in denoising steps")
        self._step = Histogram(
            "rayedit_step_seconds", "mean denoising step since the edit before", STEP_SECONDS
        )
        self._fill = Histogram(
            "rayedit_batch_fill", "most samples that shared a step with it / max_batch_size", FILL
        )

    def observe(self, outcome: EditOutcome, counters: LoopCounters) -> None:
        if isinstance(outcome, EditResult):
            self._images.inc(len(outcome.images))
            self._fill.observe(min(outcome.batch_size / self._max_batch_size, 1.0))
        steps = counters.steps - self._seen.steps
        for name, counter in (
            ("rows", self._rows),
            ("rows_saved", self._saved),
            ("rows_padded", self._padded),
            ("busy_s", self._busy),
        ):
            grown = getattr(counters, name) - getattr(self._seen, name)
            if grown > 0:
                counter.inc(grown)
        if steps > 0:
            self._step.observe((counters.busy_s - self._seen.busy_s) / steps)
        self._seen = counters
