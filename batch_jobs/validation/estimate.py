"""A few rows through the real stages of a job, to say how long all of them will take."""

from __future__ import annotations

import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.ledger.entry import from_ledger
from batch_jobs.manifest.planned import parse_options
from batch_jobs.stages.in_process import StagesHere
from batch_jobs.stages.run import EDITS, BlockRun, Work
from batch_jobs.validation.check import ManifestCheck
from storage.storage import Storage

ESTIMATED_ROWS = 5
WORKER_COUNTS = (1, 2, 4, 8)


class Estimate:
    """Edits rows of a manifest in this process, as one actor of a job would; what they become
    goes to a folder that is removed."""

    def __init__(self, check: ManifestCheck, work: Work = EDITS) -> None:
        self._check, self._work = check, work
        self._config = check.config
        self._spec = check.spec

    def run(self) -> str:
        """Say what a row costs and how long the job will take; rows that fail go to the check."""
        rows = self._check.good_rows(ESTIMATED_ROWS)
        plan = self._check.plan.take(pa.array(rows))
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            told = (plan, self._config, self._check.context(), Storage(folder))
            run = BlockRun(*told, work=self._work)
            with StagesHere(run) as stages:
                stages.edit(stages.decode(plan.slice(0, 1)))  # a process' first edit is slow
                loaded = time.monotonic()
                decoded = stages.decode(plan)
                before = time.monotonic()
                edited = stages.edit(decoded)
                model_s = time.monotonic() - before
                published = stages.publish(edited)
                all_s = time.monotonic() - loaded
        self._check.add_failures(rows, from_ledger(published))
        work = self.work()
        total_s = model_s * work.sum() / work[rows].sum()
        total_s += (all_s - model_s) * len(work) / len(rows)
        what, counts = "machines like this one", list(WORKER_COUNTS)
        if self._config.num_gpus:  # on CPUs actors share the cores
            what, counts = "actors (GPUs)", sorted({*counts, self._config.max_workers or 1})
        times = ", ".join(f"{n}: {duration(total_s / n)}" for n in counts)
        return (
            f"  estimate: {len(rows)} rows in {all_s:.1f} s, {model_s:.1f} s of it the model, "
            f"after {loaded - started:.1f} s of loading\n  about, by number of {what}: {times}"
        )

    def work(self) -> np.ndarray:
        """Count images x steps x pixels of each row, which the model's time goes with."""
        encoded = pc.dictionary_encode(self._check.plan["options"].combine_chunks())
        work = [self._work_of(planned) for planned in encoded.dictionary.to_pylist()]
        return np.array(work)[encoded.indices.to_numpy()]

    def _work_of(self, planned: str) -> float:
        options = self._spec.resolve(parse_options(planned), seed=0)
        width, height = options.size_px or (self._spec.resolution, self._spec.resolution)
        return float(options.num_images * (options.num_inference_steps or 1) * width * height)


def duration(seconds: float) -> str:
    """Write a duration such as "40 s", "12 min", "3 h 20 min", "2 d 4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
