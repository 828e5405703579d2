"""A factory that is killed at random moments; `python -m tests.triplet_jobs.chaos CAPTIONS OUTPUT
ADDRESS` is its driver. With the address "here" it is all of the job."""

from __future__ import annotations

import sys

from batch_jobs.job import over_ray
from batch_jobs.stages.in_process import edited_here
from tests.batch_jobs.chaos import WORKERS
from tests.triplet_jobs.factories import ARITHMETIC, with_job
from triplet_jobs.job import TripletJob

MODULE = "tests.triplet_jobs.chaos"
HERE = "here"
CONFIG = with_job(
    ARITHMETIC,
    rows_per_block=16,
    rows_per_commit=64,
    min_workers=WORKERS,
    max_workers=WORKERS,
    max_error_rate=1.0,  # what fails may come first
).model_copy(update={"rewrites": 1, "n_samples": 8, "max_out_samples": 2, "min_change": 45.0})
CONFIG_HERE = with_job(ARITHMETIC, rows_per_block=2, rows_per_commit=4).model_copy(
    update={"rewrites": 10, "n_samples": 2, "max_out_samples": 1, "min_change": 10.0}
)


def main(captions: str, output: str, address: str) -> int:
    """What runs in the driver's process."""
    if address == HERE:
        return TripletJob.open(captions, output, CONFIG_HERE, run_blocks=edited_here).run()
    return TripletJob.open(captions, output, CONFIG, run_blocks=over_ray(address)).run()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
