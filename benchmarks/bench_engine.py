"""rayedit against diffusers' pipeline: same weights, photographs, seeds, threads; in turn, in one
run. Prints ratios; absolute times of a shared machine are not evidence.

    python -m benchmarks.bench_engine                    # uniform work
    python -m benchmarks.bench_engine --workload mixed   # steps, scales of every kind
    python -m benchmarks.bench_engine --workload poisson --sides 64
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from importlib import metadata
from itertools import product
from typing import Any

import numpy as np
import skimage.data
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image

from engine import EditActor, EditOptions, EditRequest, EditResult, EngineConfig
from engine.registry import find_model
from engine.weights import find_weights

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")
INSTRUCTIONS = ("make it night", "turn it into a pencil sketch", "make it blue", "add fog")
MIXED = list(product((10, 20, 50), (3.0, 5.0, 7.5), (1.0, 1.2, 1.5)))


class Contest:
    """One set of weights behind both, on the same threads."""

    def __init__(self, model: str, max_batch_size: int) -> None:
        self.spec = find_model(model)
        self.actor = EditActor(EngineConfig(model=model, max_batch_size=max_batch_size))
        folder, _ = find_weights(self.spec)
        warnings.simplefilter("ignore")
        self.pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(
            folder, safety_checker=None, dtype=torch.float32
        )
        self.pipeline.set_progress_bar_config(disable=True)
        self.threads = (self.actor.config.threads,)
        torch.set_num_threads(*self.threads)

    def uniform(self, count: int, side: int, steps: int) -> list[EditRequest]:
        """`count` requests with equal parameters."""
        return [self._request(i, side, steps, 5.0, 1.3) for i in range(count)]

    def mixed(self, count: int, side: int) -> list[EditRequest]:
        """`count` requests over 10/20/50 steps, guidance 3/5/7.5, image guidance 1/1.2/1.5."""
        order = np.random.default_rng(0).permutation(len(MIXED))
        picks = [MIXED[order[i % len(MIXED)]] for i in range(count)]
        return [self._request(i, side, *pick) for i, pick in enumerate(picks)]

    def _request(self, i: int, side: int, steps: int, text: float, image: float) -> EditRequest:
        pixels = Image.fromarray(getattr(skimage.data, PHOTOGRAPHS[i % 4])()).resize((side, side))
        options = EditOptions(
            num_inference_steps=steps, guidance_scale=text, image_guidance_scale=image
        )
        resolved = self.spec.resolve(options, seed=i)
        return EditRequest(str(i), np.asarray(pixels), INSTRUCTIONS[i % 4], resolved)

    def rayedit(self, requests: list[EditRequest]) -> None:
        if not all(isinstance(o, EditResult) for o in self.actor.edit_batch(requests)):
            raise SystemExit("an edit failed: the times mean nothing")

    def diffusers(self, requests: list[EditRequest]) -> None:
        """One pipeline call for each group of equal parameters, which is all that it can batch."""
        groups: dict[Any, list[EditRequest]] = defaultdict(list)
        for request in requests:
            options = request.options
            key = (
                options.num_inference_steps,
                options.guidance_scale,
                options.image_guidance_scale,
            )
            groups[key].append(request)
        for (steps, text, image), group in groups.items():
            self.pipeline(
                [request.instruction for request in group],
                image=[Image.fromarray(request.pixels) for request in group],
                num_inference_steps=steps,
                guidance_scale=text,
                image_guidance_scale=image,
                generator=[
                    torch.Generator("cpu").manual_seed(request.options.seed or 0)
                    for request in group
                ],
            )


def offer(
    serve: Callable[[EditRequest], Future[Any]], requests: list[EditRequest], rate: float, seed: int
) -> list[float]:
    """Seconds from arrival to answer of requests that arrive as a Poisson process, `rate` a second;
    whoever is late in the queue has arrived all the same."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, len(requests))
    arrivals = time.perf_counter() + np.cumsum(gaps)
    latencies = [0.0] * len(requests)

    def note(i: int, _: Future[Any]) -> None:
        latencies[i] = time.perf_counter() - arrivals[i]

    futures = []
    for i, request in enumerate(requests):
        time.sleep(max(arrivals[i] - time.perf_counter(), 0))
        futures.append(serve(request))
        futures[-1].add_done_callback(partial(note, i))
    wait(futures)
    return latencies


def poisson(contest: Contest, side: int, arrivals: int, load: float) -> str:
    """p50 and p95 of rayedit over those of the pipeline that edits one request after the other, at
    `load` of that pipeline's capacity; in turn, a fifth of the arrivals at a time."""
    requests = contest.mixed(arrivals, side)
    sample = requests[: len(MIXED)]
    contest.diffusers(sample[:1])
    rate = load * len(sample) / sum(_time(contest.diffusers, [one]) for one in sample)
    latencies: dict[str, list[float]] = {"rayedit": [], "diffusers": []}
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=contest.threads) as one:
        for turn in range(5):
            part = requests[turn::5]
            ours = lambda request: contest.actor.submit([request])[0]  # noqa: E731
            theirs = lambda request: one.submit(contest.diffusers, [request])  # noqa: E731
            latencies["rayedit"] += offer(ours, part, rate, turn)
            latencies["diffusers"] += offer(theirs, part, rate, turn)
    ratios = [
        float(np.percentile(latencies["rayedit"], q) / np.percentile(latencies["diffusers"], q))
        for q in (50, 95)
    ]
    return f"p50 {ratios[0]:.2f}, p95 {ratios[1]:.2f} of diffusers' ({arrivals} at {rate:.2f}/s)"


def compare(contest: Contest, requests: list[EditRequest], pairs: int) -> str:
    """ "median (min - max)" of rayedit's images/s over diffusers', pair by pair."""
    contest.rayedit(requests)
    contest.diffusers(requests)
    ratios, speeds = [], []
    for pair in range(pairs):
        order = [contest.rayedit, contest.diffusers][:: 1 if pair % 2 else -1]
        seconds = {run.__name__: _time(run, requests) for run in order}
        ratios.append(seconds["diffusers"] / seconds["rayedit"])
        speeds.append(len(requests) / seconds["rayedit"])
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})"
    return f"{spread:<22} {statistics.median(speeds):8.2f}"


def _time(run: Callable[[list[EditRequest]], None], requests: list[EditRequest]) -> float:
    start = time.perf_counter()
    run(requests)
    return time.perf_counter() - start


def print_machine(threads: int) -> None:
    """Hardware, versions and commit: a ratio without them is worth nothing."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "diffusers"))
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor()
    print(f"{device or platform.machine()}, {threads} threads, {versions}, commit {commit}")


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--workload", choices=("uniform", "mixed", "poisson"), default="uniform")
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--requests", type=int, default=24, help="of the mixed workload")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--arrivals", type=int, default=200, help="of the poisson workload")
    parser.add_argument("--load", type=float, default=0.8, help="of the pipeline's capacity")
    args = parser.parse_args()
    uniform = args.workload == "uniform"
    contest = Contest(args.model, max_batch_size=max(args.batches) if uniform else 8)
    print_machine(*contest.threads)
    print(f"{'workload':<26} {'rayedit / diffusers':<22} images/s")
    for side, batch in product(args.sides, args.batches if uniform else [0]):
        name, figures = f"{args.workload} {side} px", ""
        if uniform:
            name += f", batch {batch}"
            figures = compare(contest, contest.uniform(batch, side, args.steps), args.pairs)
        elif args.workload == "mixed":
            figures = compare(contest, contest.mixed(args.requests, side), args.pairs)
        else:
            figures = poisson(contest, side, args.arrivals, args.load)
        print(f"{name:<26} {figures}", flush=True)
    contest.actor.close()


if __name__ == "__main__":
    main()
