"""pocket's defaults against the 20 steps that it had, and how many edits a day that makes.

Jobs over photographs of 1024 px, each from the first block of each worker on, in turn; then one
long job at the defaults, counted from its start to its end with all that a job does.

    python -m benchmarks.bench_defaults                # the ratio
    python -m benchmarks.bench_defaults --minutes 20   # and the long job
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from batch_jobs.config import JobConfig
from benchmarks.bench_batch import run_job
from benchmarks.bench_finish import write_manifest
from benchmarks.workloads import print_machine
from engine.config import EngineConfig
from engine.options import EditOptions

OLD_STEPS = 20
DAY_S = 86_400
WAYS = {
    "old": JobConfig(engine=EngineConfig(options=EditOptions(num_inference_steps=OLD_STEPS))),
    "new": JobConfig(),
}


def compare(folder: Path, rows: int, pairs: int) -> float:
    """Print images/s at both defaults, in turn, and their ratio; returns the new one's."""
    speeds: dict[str, list[float]] = {name: [] for name in WAYS}
    write_manifest(folder, rows)
    for pair in range(pairs):
        for way in list(WAYS)[:: 1 if pair % 2 else -1]:
            speeds[way].append(run_job(folder, folder / f"{way}-{pair}", WAYS[way]))
        print({way: round(found[-1], 3) for way, found in speeds.items()}, flush=True)
    means = {way: statistics.harmonic_mean(found) for way, found in speeds.items()}
    ratios = [new / old for new, old in zip(speeds["new"], speeds["old"], strict=True)]
    spread = f"({min(ratios):.2f} - {max(ratios):.2f})"
    print(f"images/s, new / old defaults: {means['new'] / means['old']:.2f} {spread}", flush=True)
    return means["new"]


def count(folder: Path, rows: int) -> None:
    """Print how many edits of one job there are in a second, its start included, and in a day."""
    write_manifest(folder, rows)
    started = time.perf_counter()
    run_job(folder, folder / "long", WAYS["new"])
    took_s = time.perf_counter() - started
    per_s = rows / took_s
    print(f"{rows} edits in {took_s / 60:.1f} min: {per_s:.3f} images/s, {per_s * DAY_S:.0f} a day")


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=48, help="of a job that is compared")
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=0, help="that the long job takes, about")
    args = parser.parse_args()
    print_machine(EngineConfig().threads)
    with tempfile.TemporaryDirectory() as scratch:
        per_s = compare(Path(scratch), args.rows, args.pairs)
        if args.minutes:
            count(Path(scratch), round(per_s * 60 * args.minutes))


if __name__ == "__main__":
    main()
