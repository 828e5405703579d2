"""The metrics of one ingress replica: the edits that have ended, and those that are in flight."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from ray.util.metrics import Gauge, Histogram

from serve_app.ingress.record import EditRecord
from serve_app.metrics import requests_counter

STAGE_BOUNDS_S = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 300]

GAUGE_PERIOD_S = 1.0  # Ray forgets a gauge that was not set since it was last reported

STAGES = {
    "read": "receiving and parsing the body",
    "decode": "decoding the source, and waiting for a process that does",
    "wait": "from the ingress to the first step, and back from the last",
    "model": "from the first step to the last",
    "encode": "encoding the edited images",
    "total": "the whole request",
}


class IngressMetrics:
    """Counts and times edits from their records, by model; `models`: the names of those served."""

    def __init__(self, models: Iterable[str]) -> None:
        self._requests = requests_counter()
        self._stages = {
            name: Histogram(f"rayedit_{name}_seconds", meaning, STAGE_BOUNDS_S, ("model",))
            for name, meaning in STAGES.items()
        }
        self._in_flight = Gauge("rayedit_in_flight", "edits that the ingress holds")
        meaning = "how long what is in flight will take"
        self._queue = Gauge("rayedit_queue_seconds", meaning, ("model",))
        self._in_flight_now, self._queues_s = 0, dict.fromkeys(models, 0.0)
        threading.Thread(target=self._show_gauges, daemon=True).start()

    def set_queue(self, model: str, in_flight: int, queue_s: float) -> None:
        """Note the edits that are in flight now, and how long those of a model will take; a model
        that is not served is not known yet."""
        self._in_flight_now = in_flight
        if model in self._queues_s:
            self._queues_s[model] = queue_s

    def _show_gauges(self) -> None:
        while True:
            self._in_flight.set(self._in_flight_now)
            for model, queue_s in self._queues_s.items():
                self._queue.set(queue_s, {"model": model})
            time.sleep(GAUGE_PERIOD_S)

    def observe(self, record: EditRecord) -> None:
        """Count an edit that has ended."""
        self._requests.inc(tags={"code": record.code, "model": record.model})
        for name, histogram in self._stages.items():
            seconds = getattr(record, f"{name}_s")
            if seconds:
                histogram.observe(seconds, {"model": record.model})
