"""rayedit against diffusers' pipeline: same weights, photographs, seeds, threads; in turn, in one
run. Prints ratios; absolute times of a shared machine are not evidence.

    python -m benchmarks.bench_engine                    # uniform work
    python -m benchmarks.bench_engine --workload mixed   # steps, scales of every kind
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
        torch.set_num_threads(self.actor.config.threads)

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
    parser.add_argument("--workload", choices=("uniform", "mixed"), default="uniform")
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--requests", type=int, default=24, help="of the mixed workload")
    parser.add_argument("--pairs", type=int, default=5)
    args = parser.parse_args()
    mixed = args.workload == "mixed"
    contest = Contest(args.model, max_batch_size=8 if mixed else max(args.batches))
    print_machine(contest.actor.config.threads)
    print(f"{'workload':<26} {'rayedit / diffusers':<22} images/s")
    for side, batch in product(args.sides, [0] if mixed else args.batches):
        if mixed:
            name, requests = f"mixed {side} px", contest.mixed(args.requests, side)
        else:
            name = f"uniform {side} px, batch {batch}"
            requests = contest.uniform(batch, side, args.steps)
        print(f"{name:<26} {compare(contest, requests, args.pairs)}", flush=True)
    contest.actor.close()


if __name__ == "__main__":
    main()
