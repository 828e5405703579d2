"""The job against the bare engine loop, and against plain `map_batches` over diffusers' pipeline:
same rows, weights, threads; decode and encode included; in turn, in one run, all of them warm.

    python -m benchmarks.bench_batch                     # rows of equal parameters
    python -m benchmarks.bench_batch --workload mixed    # steps, scales, shapes of every kind
    python -m benchmarks.bench_batch --workers 1         # not a worker for each core
    python -m benchmarks.bench_batch --loops 1           # one bare loop with all the cores

There are as many bare loops and naive actors as the job has workers, with its threads, where
`--loops` names no other number of bare ones, which then share the cores.

Prints ratios of images/s over the whole run, and the least and the greatest of a single turn: the
same program varies by a tenth from one turn to the next, so many short turns tell more than a few
long ones. The job and the naive job count from the first block or batch of each worker on, as a
long run would: the model's load is over then.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, redirect_stderr
from functools import partial
from io import BytesIO, StringIO
from multiprocessing import get_context
from pathlib import Path
from statistics import harmonic_mean
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
import skimage.data
from PIL import Image

from batch_jobs.cluster import fitted, ray_cluster
from batch_jobs.config import JobConfig
from batch_jobs.job import Job
from batch_jobs.stages.blocks import MOST_BATCHES
from batch_jobs.stopping import Exit
from benchmarks.rivals import Diffusers, Edit
from benchmarks.workloads import INSTRUCTIONS, MIXED, PHOTOGRAPHS, PLAIN, print_machine
from engine import EditActor, EditOptions, EngineConfig
from engine.config import cores
from engine.geometry import plan_geometry
from engine.images import encode
from engine.registry import find_model
from engine.results import finished_images
from engine.sources import Source, prepare
from engine.spec import ModelSpec

Row = dict[str, Any]


def write_rows(folder: Path, count: int, mixed: bool, steps: int) -> list[Row]:
    """`count` rows over photographs in `folder`: squares of one size, or as they are."""
    for name in PHOTOGRAPHS:
        image = Image.fromarray(getattr(skimage.data, name)())
        if not mixed:
            image = image.resize((256, 256))
        image.save(folder / f"{name}.jpg", quality=92)
    order = np.random.default_rng(0).permutation(len(MIXED))
    rows = []
    for i in range(count):
        pick = MIXED[order[i % len(MIXED)]] if mixed else (steps, 5.0, 1.3)
        rows.append(
            {
                "id": f"row-{i}",
                "image": str(folder / f"{PHOTOGRAPHS[i % 4]}.jpg"),
                "instruction": INSTRUCTIONS[i % 4],
                "num_inference_steps": pick[0],
                "guidance_scale": pick[1],
                "image_guidance_scale": pick[2],
                "seed": i,
                **PLAIN,
            }
        )
    pq.write_table(pa.Table.from_pylist(rows), folder / "manifest.parquet")
    return rows


class BareLoop:
    """Decode, edit, encode, write: no Ray, no ledger. In a process of its own, as anybody would run
    it: in one that also drives Ray its steps take longer."""

    here: BareLoop  # of the process that runs it

    def __init__(self, config: EngineConfig, spec: ModelSpec) -> None:
        self._actor = EditActor(config, spec)
        self._spec = spec
        self._rows = MOST_BATCHES * config.max_batch_size

    @classmethod
    def load(cls, config: EngineConfig, spec: ModelSpec) -> None:
        cls.here = cls(config, spec)

    @classmethod
    def run(cls, rows: list[Row], folder: Path) -> float:
        return cls.here(rows, folder)

    def __call__(self, rows: list[Row], folder: Path) -> float:
        """Images/s."""
        started = time.perf_counter()
        for start in range(0, len(rows), self._rows):
            block = rows[start : start + self._rows]
            prepared = [self._prepare(row) for row in block]
            outcomes = self._actor.edit_batch([p.request for p in prepared])
            for one, outcome in zip(prepared, outcomes, strict=True):
                (made,) = finished_images(outcome, one.finishing)
                (folder / f"{outcome.id}.png").write_bytes(encode(made.picture))
        return len(rows) / (time.perf_counter() - started)

    def _prepare(self, row: Row) -> Any:
        given = {name: row[name] for name in EditOptions.model_fields if name in row}
        options = self._spec.resolve(EditOptions.parse(given), seed=0)
        files = Source(Path(row["image"]).read_bytes())
        return prepare(row["id"], files, row["instruction"], options, self._spec)


class BareLoops:
    """A `BareLoop` in each of `count` processes."""

    def __init__(self, count: int, config: EngineConfig, spec: ModelSpec) -> None:
        self._count = count
        self._processes = ProcessPoolExecutor(
            count, get_context("spawn"), BareLoop.load, (config, spec)
        )

    def run(self, rows: list[Row], folder: Path) -> float:
        """Images/s of all of them together, each on its share of `rows`."""
        shares = [rows[i :: self._count] for i in range(self._count)]
        return sum(self._processes.map(BareLoop.run, shares, [folder] * self._count))

    def close(self) -> None:
        self._processes.shutdown()


class NaivePipeline:
    """What one would write first: a diffusers pipeline in an actor, called for each group of equal
    parameters, because that is all that it can batch."""

    def __init__(self, spec: ModelSpec, threads: int, folder: str) -> None:
        import torch

        torch.set_num_threads(threads)
        self._pipeline, self._spec, self._folder = Diffusers(spec), spec, Path(folder)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        rows = [dict(zip(batch, cells, strict=True)) for cells in zip(*batch.values(), strict=True)]
        edited = self._pipeline.edit([self._edit_of(row) for row in rows])
        for row, image in zip(rows, edited, strict=True):
            image.save(self._folder / f"{row['id']}.png")
        return {"id": batch["id"]}

    def _edit_of(self, row: Row) -> Edit:
        image = Image.open(BytesIO(Path(row["image"]).read_bytes())).convert("RGB")
        options = self._spec.resolve(EditOptions.parse(PLAIN), seed=0)
        image = image.resize(plan_geometry(image.size, options, self._spec).output)
        steps, text, scale = (float(row[name]) for name in SCALARS)
        return Edit(str(row["instruction"]), image, int(row["seed"]), int(steps), text, scale)


SCALARS = ("num_inference_steps", "guidance_scale", "image_guidance_scale")


def run_naive(rows: list[Row], folder: Path, config: JobConfig, spec: ModelSpec) -> float:
    """Images/s of plain `map_batches`, from the first batch of each worker on."""
    workers = config.min_workers
    times, counts = [], []
    with ray_cluster():
        edited = ray.data.from_items(rows).map_batches(
            NaivePipeline,
            batch_size=config.engine.max_batch_size,
            fn_constructor_args=(spec, config.engine.threads, str(folder)),
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=1,
        )
        batches = edited.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        for batch in batches:  # a prefetched one would be counted late
            times.append(time.perf_counter())
            counts.append(len(batch))
    return sum(counts[workers:]) / (times[-1] - times[workers - 1])


def run_job(folder: Path, output: Path, config: JobConfig) -> float:
    """Images/s of the job, from the first block of each worker on."""
    with redirect_stderr(StringIO()):  # each starts its own Ray: none runs beside the bare loop
        code = Job.open(str(folder / "manifest.parquet"), str(output), config).run()
    if code != Exit.OK:
        raise SystemExit(f"the job ended with {code}: its time means nothing")
    return float(json.loads((output / "report.json").read_text())["images_per_s"])


def job_config(args: argparse.Namespace, spec: ModelSpec) -> JobConfig:
    """What the job makes of `args` on this machine."""
    engine = EngineConfig(model=args.model, max_batch_size=args.batch)
    given = {} if args.workers is None else {"min_workers": args.workers}
    with ray_cluster():
        return fitted(JobConfig(engine=engine, max_workers=args.workers, **given), spec, args.rows)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--workload", choices=("uniform", "mixed"), default="uniform")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20, help="of the uniform workload")
    parser.add_argument("--batch", type=int, default=4, help="max_batch_size of all of them")
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--workers", type=int, help="default: what a job chooses")
    parser.add_argument("--loops", type=int, help="bare ones; default: one for each worker")
    args = parser.parse_args()
    spec = find_model(args.model)
    config = job_config(args, spec)
    loops = args.loops or config.min_workers
    engine = config.engine.model_copy(update={"num_threads": max(cores() // loops, 1)})
    bare = BareLoops(loops, engine, spec)
    with tempfile.TemporaryDirectory() as scratch, closing(bare):
        folder = Path(scratch)
        rows = write_rows(folder, args.rows, args.workload == "mixed", args.steps)
        bare.run(rows[: args.batch * loops], folder)
        print(f"{config.min_workers} workers, {loops} bare loops", flush=True)
        print_machine(config.engine.threads)
        speeds: dict[str, list[float]] = defaultdict(list)
        for pair in range(args.pairs):
            contestants: dict[str, Callable[[], float]] = {
                "job": partial(run_job, folder, folder / f"out-{pair}", config),
                "bare": lambda: bare.run(rows, folder),
                "naive": lambda: run_naive(rows, folder, config, spec),
            }
            for name in list(contestants)[:: 1 if pair % 2 else -1]:
                speeds[name].append(contestants[name]())
            print(json.dumps({n: round(speed[-1], 3) for n, speed in speeds.items()}), flush=True)
    for other in ("bare", "naive"):
        ratios = [a / b for a, b in zip(speeds["job"], speeds[other], strict=True)]
        whole = harmonic_mean(speeds["job"]) / harmonic_mean(speeds[other])  # of equal row counts
        spread = f"({min(ratios):.2f} - {max(ratios):.2f})"
        print(f"{args.workload:<8} job / {other:<6} {whole:.2f} {spread}", flush=True)


if __name__ == "__main__":
    main()
