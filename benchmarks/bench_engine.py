"""rayedit against diffusers' pipeline: same weights, pictures, seeds, threads; in turn, in one
run. Prints ratios; absolute times of a shared machine are not evidence.

    python -m benchmarks.bench_engine                    # uniform work
    python -m benchmarks.bench_engine --workload mixed   # steps, scales of every kind
    python -m benchmarks.bench_engine --workload poisson --sides 64
    python -m benchmarks.bench_engine --ladder --model random-sd15 --sides 256 512 768  # a GPU's
"""

from __future__ import annotations

import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import torch

from benchmarks.arrivals import offer
from benchmarks.ladder import print_ladder
from benchmarks.rivals import Diffusers, Rayedit, spec_of
from benchmarks.workloads import mixed, print_machine, reworded, uniform
from engine import EditRequest
from engine.spec import ModelSpec


class Contest:
    """One set of weights behind both, on the same threads, in float32 on the CPU."""

    def __init__(self, spec: ModelSpec, max_batch_size: int) -> None:
        self.spec = spec
        self.rayedit = Rayedit(spec, max_batch_size=max_batch_size, device="cpu")
        self.diffusers = Diffusers(spec, "cpu", torch.float32)
        torch.set_num_threads(self.rayedit.threads)


def poisson(contest: Contest, side: int, arrivals: int, load: float) -> str:
    """p50 and p95 of rayedit over those of the pipeline that edits one request after the other, at
    `load` of that pipeline's capacity; in turn, a fifth of the arrivals at a time."""
    requests = mixed(contest.spec, arrivals, side)
    sample = requests[:30]
    contest.diffusers.run(sample[:1])
    rate = load * len(sample) / sum(_seconds(contest.diffusers, [one]) for one in sample)
    latencies: dict[str, list[float]] = {"rayedit": [], "diffusers": []}
    threads = (contest.rayedit.threads,)
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=threads) as one:
        for turn in range(5):
            part = requests[turn::5]
            ours = lambda request: contest.rayedit.actor.submit([request])[0]  # noqa: E731
            theirs = lambda request: one.submit(contest.diffusers.run, [request])  # noqa: E731
            latencies["rayedit"] += offer(ours, part, rate, turn)
            latencies["diffusers"] += offer(theirs, part, rate, turn)
    ratios = [
        float(np.percentile(latencies["rayedit"], q) / np.percentile(latencies["diffusers"], q))
        for q in (50, 95)
    ]
    return f"p50 {ratios[0]:.2f}, p95 {ratios[1]:.2f} of diffusers' ({arrivals} at {rate:.2f}/s)"


def compare(contest: Contest, requests: list[EditRequest], pairs: int) -> str:
    """ "median (min - max)" of rayedit's images/s over diffusers', pair by pair."""
    rivals: list[Rayedit | Diffusers] = [contest.rayedit, contest.diffusers]
    for rival in rivals:
        rival.run(requests)
    ratios, speeds = [], []
    for pair in range(pairs):
        order = rivals[:: 1 if pair % 2 else -1]
        fresh = reworded(requests, pair)
        seconds = {id(rival): _seconds(rival, fresh) for rival in order}
        ratios.append(seconds[id(contest.diffusers)] / seconds[id(contest.rayedit)])
        speeds.append(len(requests) / seconds[id(contest.rayedit)])
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})"
    return f"{spread:<22} {statistics.median(speeds):8.2f}"


def _seconds(rival: Rayedit | Diffusers, requests: list[EditRequest]) -> float:
    start = time.perf_counter()
    rival.run(requests)
    return time.perf_counter() - start


def _contest(args: argparse.Namespace, spec: ModelSpec) -> None:
    is_uniform = args.workload == "uniform"
    contest = Contest(spec, max_batch_size=max(args.batches) if is_uniform else 8)
    print_machine(contest.rayedit.threads)
    print(f"{'workload':<26} {'rayedit / diffusers':<22} images/s")
    for side, batch in product(args.sides, args.batches if is_uniform else [0]):
        name, figures = f"{args.workload} {side} px", ""
        if is_uniform:
            name += f", batch {batch}"
            figures = compare(contest, uniform(spec, batch, side, args.steps), args.pairs)
        elif args.workload == "mixed":
            figures = compare(contest, mixed(spec, args.requests, side), args.pairs)
        else:
            figures = poisson(contest, side, args.arrivals, args.load)
        print(f"{name:<26} {figures}", flush=True)
    contest.rayedit.close()


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket", help="or random-sd15, or a folder")
    parser.add_argument("--workload", choices=("uniform", "mixed", "poisson"), default="uniform")
    parser.add_argument("--ladder", action="store_true", help="each technique, and its worth")
    parser.add_argument("--compiled", action="store_true", help="compiled pipeline in the ladder")
    parser.add_argument("--dtype", default="auto", help="of the ladder: float16, bfloat16, float32")
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--requests", type=int, default=24, help="of mixed work")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--arrivals", type=int, default=200, help="of the poisson workload")
    parser.add_argument("--load", type=float, default=0.8, help="of the pipeline's capacity")
    args = parser.parse_args()
    spec = spec_of(args.model)
    if not args.ladder:
        _contest(args, spec)
        return
    for side in args.sides:
        print_ladder(
            spec,
            args.dtype,
            uniform(spec, args.requests, side, args.steps)
            if args.workload == "uniform"
            else mixed(spec, args.requests, side),
            rounds=args.pairs,
            batch=max(args.batches),
            compiled=args.compiled,
        )


if __name__ == "__main__":
    main()
