"""A factory that is killed at random moments; `python -m tests.triplet_jobs.chaos CAPTIONS OUTPUT
ADDRESS` is its driver, with an editor that notes each candidate that it begins. With the address
"here" it is all of the job, and its edits are arithmetic."""

from __future__ import annotations

import sys
from dataclasses import replace

from batch_jobs.job import over_ray
from batch_jobs.stages.in_process import edited_here
from engine.options import EditOptions
from tests.batch_jobs.chaos import CONFIG as JOB
from tests.triplet_jobs.factories import ARITHMETIC, with_job
from triplet_jobs.config import TripletConfig
from triplet_jobs.job import TripletJob

MODULE = "tests.triplet_jobs.chaos"
HERE = "here"
FEW = EditOptions(num_inference_steps=4)
ENGINE = JOB.engine.model_copy(update={"options": FEW})
CONFIG = TripletConfig(
    job=JOB.model_copy(update={"engine": ENGINE, "rows_per_commit": 16}),
    rewrites=2,
    n_samples=3,
    max_out_samples=1,
)
CONFIG_HERE = with_job(ARITHMETIC, rows_per_block=2, rows_per_commit=4).model_copy(
    update={"rewrites": 10, "n_samples": 2, "max_out_samples": 1, "min_change": 10.0}
)


def main(captions: str, output: str, address: str) -> int:
    """What runs in the driver's process."""
    if address == HERE:
        return TripletJob.open(captions, output, CONFIG_HERE, run_blocks=edited_here).run()
    spec = replace(ENGINE.find_model(), editor="tests.batch_jobs.tracing_editors:TracingEditor")
    run_blocks = over_ray(address)
    return TripletJob.open(captions, output, CONFIG, spec=spec, run_blocks=run_blocks).run()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
