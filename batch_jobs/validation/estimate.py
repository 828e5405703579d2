"""A few rows through the real stages of a job, to say how long all of them will take."""

from __future__ import annotations

import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.config import JobConfig
from batch_jobs.manifest.rows import planned_options
from batch_jobs.stages.crash_journal import Journal
from batch_jobs.stages.edit import EditWorker
from batch_jobs.stages.publish import publish_rows
from batch_jobs.storage.storage import Storage
from batch_jobs.validation.check import ManifestCheck
from engine.registry import ModelSpec

ROWS = 5
COUNTS = (1, 2, 4, 8)


class Probe:
    """Edits rows of a manifest in this process, as one actor of a job would; what they become
    goes to a folder that is removed."""

    def __init__(self, check: ManifestCheck, config: JobConfig, spec: ModelSpec) -> None:
        self._check = check
        self._config = config
        self._spec = spec

    def run(self) -> str:
        """What a row costs and how long the job will take; rows that fail go to the check."""
        rows = self._check.good_rows(ROWS)
        plan = self._check.plan.take(pa.array(rows))
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            worker = EditWorker(self._config.engine, self._spec, Journal(Storage(folder), "probe"))
            worker(self._check.decode(plan.slice(0, 1)))  # a process' first edit is slow
            loaded = time.monotonic()
            decoded = self._check.decode(plan)
            before = time.monotonic()
            edited = worker(decoded)
            model_s = time.monotonic() - before
            published = publish_rows(edited, Storage(folder))
        all_s = time.monotonic() - loaded
        self._check.add_failures(rows, published)
        work = self._work()
        total_s = model_s * work.sum() / work[rows].sum()
        total_s += (all_s - model_s) * len(work) / len(rows)
        what, counts = "machines like this one", list(COUNTS)
        if self._config.num_gpus:  # on CPUs actors share the cores
            what, counts = "actors (GPUs)", sorted({*COUNTS, self._config.max_workers or 1})
        times = ", ".join(f"{n}: {duration(total_s / n)}" for n in counts)
        return (
            f"  probe: {len(rows)} rows in {all_s:.1f} s, {model_s:.1f} s of it the model, after "
            f"{loaded - started:.1f} s of loading\n  about, by number of {what}: {times}"
        )

    def _work(self) -> np.ndarray:
        """Of each row: images x steps x pixels, which the model's time goes with."""
        encoded = pc.dictionary_encode(self._check.plan["options"].combine_chunks())
        work = [self._work_of(planned) for planned in encoded.dictionary.to_pylist()]
        return np.array(work)[encoded.indices.to_numpy()]

    def _work_of(self, planned: str) -> float:
        options = self._spec.resolve(planned_options(planned, self._spec), seed=0)
        width, height = options.size_px or (self._spec.resolution, self._spec.resolution)
        return float(options.num_images * (options.num_inference_steps or 1) * width * height)


def duration(seconds: float) -> str:
    """Such as "40 s", "12 min", "3 h 20 min", "2 d 4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
