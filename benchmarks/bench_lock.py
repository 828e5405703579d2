"""How alike sixty photographs come out in a style: with its seed, with one each, without its LoRA.

    python -m benchmarks.bench_lock --style film

Crops of held-out photographs, no two of one shape, all with one instruction. A spread is that of
report.json: the median distance to the median, in L*a*b*, of result minus source and of the result.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from batch_jobs.config import JobConfig
from batch_jobs.job import Job
from batch_jobs.report.consistency import StyleConsistency, consistency
from batch_jobs.report.page import COLUMNS
from batch_jobs.stages.in_process import edited_here
from benchmarks.workloads import print_machine
from engine.config import EngineConfig
from training.photographs import held_out

PHOTOGRAPHS, LEAST_SHARE = 60, 1 / 3  # of each side that a crop has


def write_crops(folder: Path) -> Iterator[str]:
    """Write them; yield their names."""
    random, wholes = np.random.default_rng(11), list(held_out().values())
    for i in range(PHOTOGRAPHS):
        whole = wholes[i % len(wholes)]
        height, width = (int(random.uniform(LEAST_SHARE, 1) * side) for side in whole.shape[:2])
        top = int(random.integers(0, whole.shape[0] - height + 1))
        left = int(random.integers(0, whole.shape[1] - width + 1))
        name = f"{i}.png"
        Image.fromarray(whole[top : top + height, left : left + width]).save(folder / name)
        yield name


def spread_of(
    folder: Path, name: str, rows: list[dict[str, Any]], config: JobConfig
) -> StyleConsistency:
    """Run the rows as a job in this process."""
    manifest = folder / f"{name}.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)))
    job = Job.open(str(manifest), str(folder / name), config, run_blocks=edited_here)
    if job.run() != 0:
        raise SystemExit(f"the job {name} did not end well")
    (found,) = consistency(job.ledger.read(COLUMNS))
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--style", default="film")
    parser.add_argument("--instruction", default="make it night")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()
    engine = EngineConfig(resolution=options.side, num_threads=1)
    config = JobConfig(engine=engine, style=options.style)
    print_machine(torch.get_num_threads())
    print("| run | spread of the shift | of the result |", "|---|---|---|", sep="\n")
    with tempfile.TemporaryDirectory() as place:
        row = {"instruction": options.instruction, "num_inference_steps": options.steps}
        rows = [{"id": n, "image": n, **row} for n in write_crops(Path(place))]
        runs: dict[str, list[dict[str, Any]]] = {
            "one seed": rows,
            "a seed each": [{**row, "seed": i} for i, row in enumerate(rows)],
            "a seed each, no LoRA": [
                {**row, "seed": i, "lora_scale": 0.0} for i, row in enumerate(rows)
            ],
        }
        for name, asked in runs.items():
            lab = spread_of(Path(place), name.replace(" ", "-"), asked, config).lab
            print(f"| {name} | {lab.shift:.2f} | {lab.result:.2f} |", flush=True)


if __name__ == "__main__":
    main()
