"""The metrics of one model replica."""

from __future__ import annotations

from ray.util.metrics import Counter, Histogram

from engine.counters import LoopCounters
from engine.edit import EditOutcome, EditResult

STEP_BOUNDS_S = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]
FILL_BOUNDS = [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0]


class ReplicaMetrics:
    """Counts what the loop of a model did since the edit before."""

    def __init__(self, model: str, max_batch_size: int) -> None:
        self._max_batch_size = max_batch_size
        self._seen = LoopCounters()
        self._images = Counter(
            "rayedit_images_total", "edited images; their rate is images/s", ("model",)
        )
        self._branches = Counter(
            "rayedit_branches_total", "branches that were computed", ("model",)
        )
        self._saved = Counter(
            "rayedit_branches_saved_total", "branches that guidance did not need", ("model",)
        )
        self._padded = Counter(
            "rayedit_branches_padded_total", "branches that only filled a bucket", ("model",)
        )
        self._loras = Counter("rayedit_lora_loads_total", "LoRAs read onto the device", ("model",))
        self._busy = Counter("rayedit_busy_seconds_total", "in denoising steps", ("model",))
        self._step = Histogram(
            "rayedit_step_seconds",
            "mean denoising step since the edit before",
            STEP_BOUNDS_S,
            ("model",),
        )
        self._fill = Histogram(
            "rayedit_batch_fill",
            "most samples that shared a step with it / max_batch_size",
            FILL_BOUNDS,
            ("model",),
        )
        counters = (
            self._images,
            self._branches,
            self._saved,
            self._padded,
            self._loras,
            self._busy,
        )
        for metric in (*counters, self._step, self._fill):
            metric.set_default_tags({"model": model})

    def observe(self, outcome: EditOutcome, counters: LoopCounters) -> None:
        """Count an edit, and what `counters` have grown by."""
        if isinstance(outcome, EditResult):
            self._images.inc(len(outcome.images))
            self._fill.observe(min(outcome.batch_size / self._max_batch_size, 1.0))
        steps = counters.steps - self._seen.steps
        for name, counter in (
            ("branches", self._branches),
            ("branches_saved", self._saved),
            ("branches_padded", self._padded),
            ("lora_loads", self._loras),
            ("busy_s", self._busy),
        ):
            grown = getattr(counters, name) - getattr(self._seen, name)
            if grown > 0:
                counter.inc(grown)
        if steps > 0:
            self._step.observe((counters.busy_s - self._seen.busy_s) / steps)
        self._seen = counters
