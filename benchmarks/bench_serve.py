"""rayedit's server against the deployment that people write today (`benchmarks.naive`): the same
weights, threads, photographs and proxy, both in one Ray, one of them under load at a time, in turn.

    python -m benchmarks.bench_serve                               # mixed and uniform at 0.8
    python -m benchmarks.bench_serve --loads 0.3 0.6 0.8 1 1.2     # of naive's capacity
    python -m benchmarks.bench_serve --workloads mixed --arrivals 400

Arrivals are a Poisson process that waits for nobody (open loop); a latency runs from the arrival.
Ratios of one run are evidence; absolute times of a shared machine are not.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import socket
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

os.environ["RAY_AUTH_MODE"] = "disabled"

import httpx
import numpy as np
import ray
import skimage.data
from PIL import Image
from ray import serve

from benchmarks.canvases import canvases
from benchmarks.naive import NaiveEditor
from benchmarks.overhead import overhead
from benchmarks.workloads import INSTRUCTIONS, MIXED, PHOTOGRAPHS, print_machine
from engine.config import EngineConfig
from engine.images import MAX_BYTES
from engine.registry import find_model
from serve_app.app import deploy
from serve_app.config import ServeConfig
from serve_app.proxy.guard import guarded_environment
from serve_app.served import find_models

HOST = "127.0.0.1"
PATHS = {"rayedit": "/v1/images/edits", "naive": "/naive"}
TURNS = 5
UNIFORM = (20, 3.0, 1.3)  # steps, text and image scale
GOOD = 5.0  # an answer is good within this many times the mean time of an edit alone

Post = Callable[[str, "Job"], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Job:
    """One request: the form's fields and the photograph's bytes (JPEG, 512 px)."""

    fields: dict[str, str]
    photograph: bytes


@dataclass
class Score:
    """Of one contestant at one load: seconds from arrival to 200, and over all arrivals."""

    latencies: list[float] = field(default_factory=list)
    refused: int = 0
    seconds: float = 0.0

    def line(self, slo_s: float) -> str:
        p50, p95, p99 = (1e3 * self.quantile(q) for q in (50, 95, 99))
        good = sum(latency <= slo_s for latency in self.latencies) / self.seconds
        return f"{p50:7.0f} {p95:7.0f} {p99:7.0f} ms   {good:5.2f} good/s   {self.refused} refused"

    def quantile(self, q: float) -> float:
        return float(np.percentile(self.latencies, q))


def workload(name: str, side: int, count: int) -> list[Job]:
    """`uniform`: 20 steps, 3 and 1.3, one size. `mixed`: every combination of three step counts,
    text and image scales and sizes, shuffled."""
    sizes = sizes_of(side)
    kinds = list(product(MIXED, sizes)) if name == "mixed" else [(UNIFORM, sizes[0])]
    order = np.random.default_rng(0).permutation(len(kinds))
    return [_job(i, *kinds[order[i % len(kinds)]]) for i in range(count)]


def sizes_of(side: int) -> list[tuple[int, int]]:
    """Three canvases, as (width, height) in px."""
    small = side * 3 // 4
    return [(side, side), (small, side), (side, small)]


def _job(i: int, scales: tuple[int, float, float], size: tuple[int, int]) -> Job:
    steps, text, image = scales
    fields = {
        "prompt": INSTRUCTIONS[i % len(INSTRUCTIONS)],
        "seed": str(i),
        "num_inference_steps": str(steps),
        "guidance_scale": str(text),
        "image_guidance_scale": str(image),
        "size": f"{size[0]}x{size[1]}",
        "detail": "model",
    }
    return Job(fields, _photograph(PHOTOGRAPHS[i % len(PHOTOGRAPHS)]))


def _photograph(name: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(getattr(skimage.data, name)()).resize((512, 512)).save(buffer, "JPEG")
    return buffer.getvalue()


async def offer(post: Post, path: str, jobs: Sequence[Job], rate: float, seed: int) -> Score:
    """`jobs` as a Poisson process of `rate` a second; returns when the last is answered."""
    score = Score()
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, len(jobs)))
    start = time.perf_counter()

    async def one(job: Job, arrival: float) -> None:
        await asyncio.sleep(max(start + arrival - time.perf_counter(), 0))
        if await post(path, job) == 200:
            score.latencies.append(time.perf_counter() - start - arrival)
        else:
            score.refused += 1

    await asyncio.gather(*(one(job, at) for job, at in zip(jobs, arrivals, strict=True)))
    score.seconds = time.perf_counter() - start
    return score


async def saturate(post: Post, path: str, jobs: Sequence[Job], clients: int) -> float:
    """Seconds an edit when `clients` send one after the other without a pause."""
    queue = list(jobs)

    async def client() -> None:
        while queue:
            if (status := await post(path, queue.pop())) != 200:
                raise RuntimeError(f"{path} answers {status} to {clients} clients")

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return (time.perf_counter() - start) / len(jobs)


async def duel(post: Post, jobs: list[Job], rate: float) -> dict[str, Score]:
    """Both contestants under the same arrivals, a fifth at a time, in alternating order."""
    scores = {name: Score() for name in PATHS}
    for turn in range(TURNS):
        for name in list(PATHS)[:: 1 if turn % 2 else -1]:
            part = await offer(post, PATHS[name], jobs[turn::TURNS], rate, turn)
            scores[name].latencies += part.latencies
            scores[name].refused += part.refused
            scores[name].seconds += part.seconds
    return scores


async def compare(post: Post, name: str, args: argparse.Namespace) -> None:
    """Every load of one workload."""
    sample = workload(name, args.side, 3 * args.clients)
    for path in PATHS.values():
        await saturate(post, path, sample[: args.clients], args.clients)  # the first calls are slow
    alone_s = await saturate(post, PATHS["naive"], sample[: args.clients], 1)
    seconds: dict[str, list[float]] = {key: [] for key in PATHS}
    for _ in range(3):
        for key, path in PATHS.items():
            seconds[key].append(await saturate(post, path, sample, args.clients))
    capacity = {key: 1 / statistics.median(values) for key, values in seconds.items()}
    slo_s = GOOD * alone_s
    print(
        f"\n{name}, {args.side} px: saturated, naive {capacity['naive']:.2f} and rayedit "
        f"{capacity['rayedit']:.2f} edits/s ({capacity['rayedit'] / capacity['naive']:.2f}); "
        f"good: within {slo_s:.2f} s"
    )
    for load in args.loads:
        jobs = workload(name, args.side, args.arrivals)
        scores = await duel(post, jobs, load * capacity["naive"])
        for key, score in scores.items():
            print(f"  {load:3.1f} {key:8} {score.line(slo_s)}")
        ratios = [scores["rayedit"].quantile(q) / scores["naive"].quantile(q) for q in (50, 95, 99)]
        print("  {:3.1f} rayedit / naive: p50 {:.2f}, p95 {:.2f}, p99 {:.2f}".format(load, *ratios))


async def run(url: str, args: argparse.Namespace, config: EngineConfig) -> None:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as client:

        async def post(path: str, job: Job) -> int:
            files = {"image": ("photo.jpg", job.photograph, "image/jpeg")}
            return (await client.post(path, data=job.fields, files=files)).status_code

        (job,) = workload("uniform", args.side, 1)
        for path in PATHS.values():
            while await post(path, job) == 404:  # Serve's proxy learns of a route a little later
                await asyncio.sleep(0.2)
        for name in args.workloads:
            await compare(post, name, args)
        if args.canvases:
            saturated = partial(saturate, post, PATHS["rayedit"], clients=args.clients)
            numbers = range(2 * args.clients)
            by_canvas = [[_job(i, UNIFORM, size) for i in numbers] for size in sizes_of(args.side)]
            await canvases(saturated, by_canvas, args.canvases)
        if args.pairs:
            await overhead(client, PATHS["rayedit"], job.fields, job.photograph, config, args.pairs)


def free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--workloads", nargs="*", default=["mixed", "uniform"])
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--loads", type=float, nargs="+", default=[0.8])
    parser.add_argument("--arrivals", type=int, default=200, help="for each contestant and load")
    parser.add_argument("--clients", type=int, default=8, help="that saturate")
    parser.add_argument("--canvases", type=int, default=5, help="turns of three canvases alone")
    parser.add_argument("--pairs", type=int, default=40, help="of the overhead alone")
    args = parser.parse_args()
    engine = EngineConfig(model=args.model, resolution=args.side, max_batch_size=8)
    spec = find_model(engine.model, engine.resolution)
    os.environ.update(guarded_environment(MAX_BYTES))
    ray.init(
        address="local",
        num_cpus=8,
        include_dashboard=False,
        log_to_driver=False,
        # of niceness 15, the bare loop here would outrank a replica; idle workers: as `serve` does
        _system_config={"worker_niceness": 0, "num_workers_soft_limit": 0},
    )
    port = free_port()
    config = ServeConfig(engine=engine, max_wait_s=5)  # as on a GPU
    deploy(config, find_models(config), HOST, port)
    naive: Any = NaiveEditor
    serve.run(naive.bind(spec, engine.threads), name="naive", route_prefix="/naive")
    print_machine(engine.threads)
    asyncio.run(run(f"http://{HOST}:{port}", args, engine))
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
