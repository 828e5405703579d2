"""Edits of more LoRA styles than a replica holds, over two replicas: how often a LoRA is read, and
edits/s, where an edit goes to any replica and where it goes to one that has its LoRA.

    python -m benchmarks.bench_style_routing
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import yaml
from ray import serve
from ray.serve.handle import DeploymentHandle

from benchmarks.workloads import print_machine, uniform
from cluster.session import local_ray
from engine import EditOptions, EditRequest
from engine.built_in_styles import BUILT_IN
from engine.config import EngineConfig
from engine.edit import EditFailure
from serve_app.config import ServeConfig
from serve_app.deployment import build_replicas
from serve_app.ingress.prometheus import read_metrics
from serve_app.ingress.ray_backend import RayBackend
from serve_app.ingress.replica_wait import ReplicaWait
from serve_app.ray_private import metrics_urls
from serve_app.schemas import ModelStatus
from serve_app.served import Served, find_models

REPLICAS = 2
HELD_MB = 2  # two of pocket's LoRAs, 0.86 MB each in float32
STYLES = [f"style{i}" for i in range(4)]  # as many as both replicas hold
STEPS = 4
METRICS_S = 3.0  # until Ray tells what was counted
# How many edits of a LoRA at a time are sent to where it is.
WAYS = {"any replica": 0, "one that has it, a batch": 4, "one that has it, all": 10_000}


async def _ready() -> ModelStatus:
    return "ready"


def write_styles(file: Path) -> str:
    """Write the styles: to a replica, each has a LoRA of its own."""
    lora = str(BUILT_IN.by_name["film"].lora)
    file.write_text(yaml.safe_dump({name: {"model": "pocket", "lora": lora} for name in STYLES}))
    return str(file)


def edits_of(model: Served, styles: Sequence[str], turn: str) -> list[EditRequest]:
    """Make an edit in each of these styles; but for their ids the same in every turn."""
    options = model.spec.resolve(EditOptions(style=STYLES[0], num_inference_steps=STEPS), seed=7)
    plain = uniform(model.spec, len(styles), model.spec.resolution)
    return [
        replace(
            edit, id=f"{turn} {i}", options=options, adapter=model.spec.styles[style], digest=""
        )
        for i, (edit, style) in enumerate(zip(plain, styles, strict=True))
    ]


async def edited(backend: RayBackend, edits: Sequence[EditRequest], clients: int) -> list[bytes]:
    """Have so many clients send the edits, each one after another; their pixels, in order."""
    left = iter(enumerate(edits))
    pixels = [b""] * len(edits)

    async def client() -> None:
        for i, edit in left:
            outcome = await backend.edit(edit)
            if isinstance(outcome, EditFailure):
                raise SystemExit(f"{outcome.id}: {outcome.message}")
            pixels[i] = outcome.images[0].tobytes()

    await asyncio.gather(*(client() for _ in range(clients)))
    return pixels


def loads() -> int:
    """Count the LoRAs that the replicas have read so far."""
    time.sleep(METRICS_S)
    page = read_metrics(metrics_urls())
    return round(
        sum(map(float, re.findall(r"^ray_rayedit_lora_loads_total\{.*\} (\S+)$", page, re.M)))
    )


def compare(handle: DeploymentHandle, model: Served, count: int, rounds: int) -> None:
    """Send the same edits each way, in turn: of all styles by 8 clients, of one by 4."""
    mixed = list(np.random.default_rng(0).choice(STYLES, count))
    work = {"mixed": (mixed, 8), "one style": ([STYLES[0]] * (count // 2), 4)}
    read: dict[str, list[int]] = {way: [] for way in WAYS}
    rates: dict[tuple[str, str], list[float]] = {}
    seen: dict[str, list[bytes]] = {}
    for turn in range(rounds + 1):
        for way, batch_size in WAYS.items():
            backend = RayBackend(handle, ReplicaWait(model.name, _ready), batch_size)
            first = edits_of(model, mixed[::3], f"{turn} {way} first")
            asyncio.run(edited(backend, first, 8))  # the replicas hold what this way leads to
            before = loads()
            for name, (styles, clients) in work.items():
                start_s = time.monotonic()
                pixels = asyncio.run(
                    edited(backend, edits_of(model, styles, f"{turn} {way} {name}"), clients)
                )
                if turn:  # the first warms up
                    rate = len(styles) / (time.monotonic() - start_s)
                    rates.setdefault((way, name), []).append(rate)
                if seen.setdefault(name, pixels) != pixels:
                    raise SystemExit(f"{name}, {way}: other bytes than before")
                if name == "mixed" and turn:
                    read[way].append(loads() - before)
    for way in WAYS:
        figures = [f"{name} {median(rates[way, name]):.2f} edits/s" for name in work]
        print(f"{way}: loads of {count} mixed edits {read[way]}; {', '.join(figures)}")


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=48)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args(arguments)
    os.environ.update(RAY_metrics_report_interval_ms="1000")
    with tempfile.TemporaryDirectory() as folder, local_ray(idle_workers=0):
        engine = EngineConfig(
            resolution=options.side,
            num_threads=1,
            determinism="strict",
            styles=write_styles(Path(folder) / "styles.yaml"),
            lora_memory_mb=HELD_MB,
        )
        settings = ServeConfig(engine=engine, min_replicas=REPLICAS, max_replicas=REPLICAS)
        (model,) = find_models(settings)
        handle = serve.run(build_replicas(model), name=model.application, route_prefix=None)
        print_machine(engine.threads)
        compare(handle, model, options.requests, options.rounds)
        serve.shutdown()


if __name__ == "__main__":
    main()
