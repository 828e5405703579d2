"""How alike sixty photographs come out in a style: with one seed for all, and with one each.

    python -m benchmarks.bench_lock --style film     # pocket; beside the true edits in its look
    python -m benchmarks.bench_lock --edges          # a model that draws from the noise, see below

Crops of held-out photographs, no two of one shape, all with one instruction. A spread is that of
report.json: the median distance to the median, in L*a*b*, of result minus source and of the result.

`--edges`: text-to-image under each photograph's edges, with random weights in Stable Diffusion's
architecture, which make much of the noise and little of the edges.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from batch_jobs.config import JobConfig
from batch_jobs.job import Job
from batch_jobs.report.consistency import consistency
from batch_jobs.report.page import COLUMNS
from batch_jobs.stages.in_process import edited_here
from benchmarks.bench_canny import write_folder
from benchmarks.bench_detail import unit
from benchmarks.workloads import print_machine
from engine.config import EngineConfig
from engine.geometry import plan_geometry, to_canvas
from engine.look import look_of
from engine.options import EditOptions
from training.kinds import KINDS
from training.looks import LOOKS
from training.photographs import held_out

PHOTOGRAPHS, LEAST_SHARE = 60, 1 / 3  # of each side that a crop has
KIND, INSTRUCTION = "night", "make it night"
CHANNELS = 32  # of the random UNet's first level: a tenth of Stable Diffusion's
DRAWN = "drawn: {seed: 42}"

Row = dict[str, Any]


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


def spread_of(folder: Path, name: str, rows: list[Row], config: JobConfig) -> tuple[float, float]:
    """Run the rows as a job in this process: the spread of the shift, and of the result."""
    manifest = folder / f"{name}.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)))
    job = Job.open(str(manifest), str(folder / name), config, run_blocks=edited_here)
    if job.run() != 0:
        raise SystemExit(f"the job {name} did not end well")
    (found,) = consistency(job.ledger.read(COLUMNS))
    return found.lab.shift, found.lab.result


def true_spread(
    folder: Path, names: list[str], look: str, engine: EngineConfig
) -> tuple[float, ...]:
    """The same of the true edits in a look: the arithmetic that the model was taught."""
    sources, results = [], []
    for name in names:
        photograph = Image.open(folder / name)
        canvas = to_canvas(
            photograph, plan_geometry(photograph.size, EditOptions(), engine.find_model())
        )
        true = LOOKS[look](KINDS[KIND].apply(unit(canvas)))
        sources.append(look_of(canvas).lab)
        results.append(look_of((true * 255).round().astype(np.uint8)).lab)
    found = np.array(results)
    return tuple(_spread(values) for values in (found - np.array(sources), found))


def _spread(values: np.ndarray) -> float:
    return float(np.median(np.linalg.norm(values - np.median(values, axis=0), axis=1)))


def seeded(rows: list[Row], **more: Any) -> list[Row]:
    """The same rows, each with a seed of its own."""
    return [{**row, **more, "seed": i} for i, row in enumerate(rows)]


def print_line(name: str, spread: tuple[float, ...]) -> None:
    print(f"| {name} | {spread[0]:.2f} | {spread[1]:.2f} |", flush=True)


def compare_pocket(folder: Path, style: str, rows: list[Row], engine: EngineConfig) -> None:
    """One seed, a seed each, without the LoRA; and what the true edits would be."""
    config = JobConfig(engine=engine, style=style)
    print_line("one seed", spread_of(folder, "locked", rows, config))
    print_line("a seed each", spread_of(folder, "free", seeded(rows), config))
    bare = seeded(rows, lora_scale=0.0)
    print_line("a seed each, no LoRA", spread_of(folder, "bare", bare, config))
    names = [row["image"] for row in rows]
    print_line("the true edits", true_spread(folder, names, style, engine))


def compare_drawn(folder: Path, rows: list[Row], engine: EngineConfig) -> None:
    """One seed, and a seed each, with a model of random weights."""
    warnings.simplefilter("ignore")
    write_folder(folder / "model", CHANNELS)
    styles = folder / "styles.yaml"
    styles.write_text(DRAWN)
    drawing = engine.model_copy(update={"model": str(folder / "model"), "styles": str(styles)})
    config = JobConfig(engine=drawing, style="drawn")
    print_line("one seed", spread_of(folder, "locked", rows, config))
    print_line("a seed each", spread_of(folder, "free", seeded(rows), config))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--style", choices=LOOKS, default="film")
    parser.add_argument("--edges", action="store_true", help="random weights, under edges")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()
    engine = EngineConfig(resolution=options.side, num_threads=1)
    print_machine(torch.get_num_threads())
    print("| run | spread of the shift | of the result |", "|---|---|---|", sep="\n")
    with tempfile.TemporaryDirectory() as place:
        row = {"instruction": INSTRUCTION, "num_inference_steps": options.steps}
        rows = [{"id": n, "image": n, **row} for n in write_crops(Path(place))]
        if options.edges:
            compare_drawn(Path(place), rows, engine)
        else:
            compare_pocket(Path(place), options.style, rows, engine)


if __name__ == "__main__":
    main()
