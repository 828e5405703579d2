"""A factory that is killed at random moments; `python -m tests.triplet_jobs.chaos CAPTIONS OUTPUT
ADDRESS` is its driver, with an editor that notes each candidate that it begins."""

from __future__ import annotations

import sys
from dataclasses import replace

from batch_jobs.job import over_ray
from engine.options import EditOptions
from tests.batch_jobs.chaos import CONFIG as JOB
from triplet_jobs.config import TripletConfig
from triplet_jobs.job import TripletJob

MODULE = "tests.triplet_jobs.chaos"
FEW = EditOptions(num_inference_steps=4)
ENGINE = JOB.engine.model_copy(update={"options": FEW})
CONFIG = TripletConfig(
    job=JOB.model_copy(update={"engine": ENGINE, "rows_per_commit": 16}),
    rewrites=2,
    n_samples=3,
    max_out_samples=1,
)


def main(captions: str, output: str, address: str) -> int:
    """What runs in the driver's process."""
    spec = replace(ENGINE.find_model(), editor="tests.batch_jobs.tracing_editors:TracingEditor")
    run_blocks = over_ray(address)
    return TripletJob.open(captions, output, CONFIG, spec=spec, run_blocks=run_blocks).run()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
