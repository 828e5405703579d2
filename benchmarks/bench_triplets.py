"""The factory against the bare engine loop: candidates/s, the same ones, in turn.

    python -m benchmarks.bench_triplets                # in one process, on one loaded model
    python -m benchmarks.bench_triplets --workers 2    # the job over Ray, and as many bare loops

The bare loop decodes, edits, encodes and writes each candidate. The factory plans, scores each
pair, writes its source too, keeps a ledger, chooses, and writes data set and report. In one process
all of that counts, and the ratios are of wall time and of processor time, which others on the
machine change less. Over Ray the rate is that of editing: from the first block of each worker on,
when the models are loaded, to the last block; so it has Ray in it, and neither plan nor data set.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, redirect_stderr
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any

import skimage.data
from PIL import Image

from batch_jobs.config import JobConfig
from batch_jobs.manifest.planned import parse_options, planned_rows
from batch_jobs.stages.in_process import edited_here
from batch_jobs.stages.run import Work
from batch_jobs.stopping import Exit
from benchmarks.bench_batch import BareLoops
from benchmarks.workloads import PHOTOGRAPHS, print_machine
from engine import EditActor, EditOptions, EngineConfig
from engine.counted import counted
from engine.edit import EditResult
from engine.images import encode
from engine.results import finished_images
from engine.seeding import row_seed
from engine.sources import Source, prepare
from triplet_jobs.config import TripletConfig
from triplet_jobs.job import TripletJob
from triplet_jobs.pairing import PairWorker

Seconds = tuple[float, float]  # of wall time, of processor time


class WarmWorker(PairWorker):
    """Edits with the model that the bare loop has too."""

    actor: EditActor

    def _load(self, *_: Any) -> EditActor:
        return self.actor

    def close(self) -> None:
        """Leave it to the bare loop."""


def timed(work: Callable[[], None]) -> Seconds:
    """Measure a call."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def run_factory(album: Path, output: Path, config: TripletConfig) -> None:
    """Make a data set, from reading the captions on."""
    factory = TripletJob.open(str(album), str(output), config, run_blocks=edited_here)
    job = replace(factory.job, work=Work(WarmWorker, (factory.config,)))
    with redirect_stderr(StringIO()):
        code = replace(factory, job=job).run()
    if code != Exit.OK:
        raise SystemExit(f"the factory ended with {code}: its time means nothing")


def run_bare(factory: TripletJob, folder: Path) -> None:
    """Edit the candidates of a factory, block by block as it does."""
    plan = factory.job.plan
    rows = planned_rows(plan.rows)
    at_once = plan.config.rows_per_block or len(rows)
    for start in range(0, len(rows), at_once):
        prepared = []
        for row in rows[start : start + at_once]:
            data = (Path(plan.manifest) / str(row.image)).read_bytes()
            options = plan.spec.resolve(
                parse_options(row.options), row_seed(plan.config.seed, row.id)
            )
            prepared.append(prepare(row.id, Source(data), str(row.instruction), options, plan.spec))
        outcomes = WarmWorker.actor.edit_batch([one.request for one in prepared])
        for number, (one, outcome) in enumerate(zip(prepared, outcomes, strict=True)):
            if not isinstance(outcome, EditResult):
                raise SystemExit(f"an edit failed: {outcome}")
            (made,) = finished_images(outcome, one.finishing)
            (folder / f"{start + number}.png").write_bytes(encode(made.picture))


def write_album(scratch: Path) -> Path:
    """Write the photographs of both."""
    album = scratch / "album"
    album.mkdir()
    for name in PHOTOGRAPHS:
        Image.fromarray(getattr(skimage.data, name)()).save(album / f"{name}.jpg", quality=92)
    return album


def compare(scratch: Path, config: TripletConfig, turns: int) -> dict[str, list[Seconds]]:
    """Run both, in turn, after a turn of few candidates that warms up."""
    album = write_album(scratch)
    spent: dict[str, list[Seconds]] = {"factory": [], "bare": []}
    for turn in range(turns + 1):
        loose = scratch / f"bare-{turn}"
        loose.mkdir()
        asked = config if turn else config.model_copy(update={"n_samples": 1})
        planned = TripletJob.open(str(album), str(scratch / "plan"), asked, run_blocks=edited_here)
        contestants: dict[str, Callable[[], None]] = {
            "factory": partial(run_factory, album, scratch / f"out-{turn}", asked),
            "bare": partial(run_bare, planned, loose),
        }
        for name in list(contestants)[:: 1 if turn % 2 else -1]:
            seconds = timed(contestants[name])
            if turn:
                spent[name].append(seconds)
                print(f"{name:<8} {seconds[0]:.1f} s, processor {seconds[1]:.1f} s", flush=True)
    return spent


def job_rate(album: Path, output: Path, config: TripletConfig) -> float:
    """Candidates/s of the job over a Ray of its own."""
    with redirect_stderr(StringIO()):
        code = TripletJob.open(str(album), str(output), config).run()
    if code != Exit.OK:
        raise SystemExit(f"the factory ended with {code}: its rate means nothing")
    run = json.loads((output / "report.json").read_text())["run"]
    return float(run["rows"] / run["editing_s"])


def loop_rows(factory: TripletJob) -> list[dict[str, Any]]:
    """List the candidates of a factory as bare loops take them."""
    plan = factory.job.plan
    return [
        {
            "seed": row_seed(plan.config.seed, row.id),
            **json.loads(row.options),
            "id": row.id.replace("/", "-"),
            "image": str(Path(plan.manifest) / str(row.image)),
            "instruction": row.instruction,
        }
        for row in planned_rows(plan.rows)
    ]


def compare_over_ray(scratch: Path, config: TripletConfig, turns: int) -> dict[str, list[float]]:
    """Candidates/s of the job and of as many bare loops as it has workers, in turn."""
    album, loose = write_album(scratch), scratch / "bare"
    loose.mkdir()
    planned = TripletJob.open(str(album), str(scratch / "plan"), config, run_blocks=edited_here)
    rows, job = loop_rows(planned), planned.job.plan.config
    rates: dict[str, list[float]] = {"factory": [], "bare": []}
    with closing(BareLoops(job.min_workers, job.engine, planned.job.plan.spec)) as loops:
        loops.run(rows[: job.min_workers], loose)
        for turn in range(turns):
            contestants: dict[str, Callable[[], float]] = {
                "factory": partial(job_rate, album, scratch / f"out-{turn}", config),
                "bare": partial(loops.run, rows, loose),
            }
            for name in list(contestants)[:: 1 if turn % 2 else -1]:
                rates[name].append(contestants[name]())
                print(f"{name:<8} {rates[name][-1]:.2f} candidates/s", flush=True)
    return rates


def print_ratio(of: str, ratios: list[float]) -> None:
    """Print the median, and the least and the greatest of a turn."""
    spread = f"{median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})"
    print(f"candidates/s of {of}, factory / bare: {spread}")


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--samples", type=int, default=4, help="of each of four photographs")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--block", type=int, help="rows of a block; default: 8, over Ray the job's")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of torch; default: one for each core")
    parser.add_argument("--workers", type=int, default=0, help="of Ray; default: no Ray")
    args = parser.parse_args()
    options = EditOptions(num_inference_steps=args.steps)
    engine = EngineConfig(model=args.model, options=options, num_threads=args.threads)
    block = args.block or (None if args.workers else 8)
    job = JobConfig(engine=engine, rows_per_block=block)
    config = TripletConfig(job=job, n_samples=args.samples)
    with tempfile.TemporaryDirectory() as scratch:
        print_machine(engine.threads)
        if args.workers:
            fixed = {"min_workers": args.workers, "max_workers": args.workers}
            on_ray = config.model_copy(update={"job": job.model_copy(update=fixed)})
            rates = compare_over_ray(Path(scratch), on_ray, args.turns)
            pairs = zip(rates["factory"], rates["bare"], strict=True)
            print_ratio(counted(args.workers, "worker"), [made / bare for made, bare in pairs])
            return
        with EditActor(engine) as actor:
            WarmWorker.actor = actor
            spent = compare(Path(scratch), config, args.turns)
    for at, what in enumerate(("wall", "processor")):
        times = {name: [seconds[at] for seconds in turns] for name, turns in spent.items()}
        pairs = zip(times["bare"], times["factory"], strict=True)
        print_ratio(f"{what} time", [bare / made for bare, made in pairs])


if __name__ == "__main__":
    main()
