"""What the benchmarks edit, with equal or with mixed parameters.

Noise: what a picture shows changes no time, and so these need torch and diffusers alone."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import replace
from importlib import metadata
from itertools import product

import numpy as np
import torch

from engine import EditOptions, EditRequest
from engine.spec import ModelSpec

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")
INSTRUCTIONS = ("make it night", "turn it into a pencil sketch", "make it blue", "add fog")
PLAIN = {"detail": "model", "restore_size": False}  # the model's own picture, as of diffusers
MIXED = list(product((10, 20, 50), (3.0, 5.0, 7.5), (1.0, 1.2, 1.5)))


def uniform(spec: ModelSpec, count: int, side: int, steps: int = 20) -> list[EditRequest]:
    """`count` requests of `side` px with equal parameters."""
    return [_request(spec, i, side, steps, 5.0, 1.3) for i in range(count)]


def mixed(spec: ModelSpec, count: int, side: int) -> list[EditRequest]:
    """`count` requests over 10/20/50 steps, guidance 3/5/7.5, image guidance 1/1.2/1.5: each draws
    its own, so that some are equal."""
    picks = np.random.default_rng(0).integers(0, len(MIXED), count)
    return [_request(spec, i, side, *MIXED[pick]) for i, pick in enumerate(picks)]


def reworded(requests: list[EditRequest], turn: int) -> list[EditRequest]:
    """The same work with instructions that no cache of texts has met."""
    return [replace(r, instruction=f"{r.instruction}, {turn}") for r in requests]


def without_row_packing(requests: list[EditRequest]) -> list[EditRequest]:
    """The same work where every sample needs its three rows: no weight is exactly 0."""
    return [
        replace(request, options=request.options.model_copy(update={"image_guidance_scale": scale}))
        for request in requests
        for scale in [request.options.scale("image_guidance_scale") + 1e-6]
    ]


def print_machine(threads: int) -> None:
    """Hardware, versions and commit: a ratio without them is worth nothing."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "diffusers"))
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor()
    print(f"{device or platform.machine()}, {threads} threads, {versions}, commit {commit}")


def _request(
    spec: ModelSpec, i: int, side: int, steps: int, text: float, image: float
) -> EditRequest:
    pixels = np.random.default_rng(i).integers(0, 256, (side, side, 3), np.uint8)
    scales = {"guidance_scale": text, "image_guidance_scale": image}
    options = EditOptions.parse({"num_inference_steps": steps, **scales, **PLAIN})
    resolved = spec.resolve(options, seed=i)
    return EditRequest(str(i), pixels, INSTRUCTIONS[i % 4], resolved)
