"""Four LoRA styles on one model against one style and none: images/s in turn, and a switch in ms.

`python -m benchmarks.bench_styles [--model FOLDER] [--rounds 5]`: random weights of rank 4, which
cost what trained ones do. Where peft is installed, its load and its switch are measured too.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import save_file
from torch import nn

from benchmarks.rivals import spec_of
from benchmarks.workloads import print_machine, uniform
from engine import EditRequest, EngineConfig
from engine.adapter import Adapter, find_adapter
from engine.adapters import Adapters
from engine.capacity import Capacity
from engine.loading import load_model
from engine.loop import DenoiseLoop
from engine.weights import weights_bytes

STYLES, RANK = 4, 4
LAYERS = re.compile(r"to_[qkv]$|to_out\.0$|conv\d$|proj_(in|out)$")


def write_style(editor: Any, file: Path, seed: int) -> Adapter:
    """A LoRA of attention and convolutions, small enough to keep a picture a picture."""
    draw = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, layer in editor.denoiser.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and LAYERS.search(name):
            out, *inner = layer.weight.shape
            down = torch.randn(RANK, *inner, generator=draw) / layer.weight[0].numel() ** 0.5
            up = 0.02 * torch.randn(out, RANK, *[1] * (len(inner) - 1), generator=draw)
            tensors[f"{editor.denoiser_part}.{name}.lora_A.weight"] = down.half()
            tensors[f"{editor.denoiser_part}.{name}.lora_B.weight"] = up.half()
    save_file(tensors, file)
    return find_adapter(str(seed), file)


def seconds(loop: DenoiseLoop, requests: list[EditRequest]) -> float:
    """Run the requests to their end; s of the processor, which others may want too."""
    start = time.process_time()
    for request in requests:
        loop.admit(request)
    while not loop.idle:
        loop.step()
    return time.process_time() - start


def compare(
    loop: DenoiseLoop, work: list[EditRequest], styles: list[Adapter], rounds: int
) -> dict[str, list[float]]:
    """Edit the same work without a style, in one and in all, in turn; ratios of images/s."""
    kinds: dict[str, list[Adapter | None]] = {
        "none": [None],
        "one": [styles[0]],
        "four": list(styles),
    }
    ratios: dict[str, list[float]] = {"one / none": [], "four / one": []}
    for turn in range(rounds + 1):
        took = {}
        for name in list(kinds)[:: 1 if turn % 2 else -1]:
            requests = [
                replace(
                    request,
                    id=f"{name}-{turn}-{i}",
                    options=request.options.model_copy(update={"lora_scale": 1.0}),
                    adapter=kinds[name][i % len(kinds[name])],
                )
                for i, request in enumerate(work)
            ]
            took[name] = seconds(loop, requests)
        if turn:  # the first warms up
            ratios["one / none"].append(took["none"] / took["one"])
            ratios["four / one"].append(took["one"] / took["four"])
    return ratios


def print_peft(folder: Path, editor: Any, files: list[Path]) -> None:
    """Load the same files with peft into the same denoiser of diffusers, and switch."""
    denoiser = type(editor.denoiser).from_pretrained(folder / editor.denoiser_part).eval()
    start = time.perf_counter()
    for file in files:
        denoiser.load_lora_adapter(
            str(file.parent),
            weight_name=file.name,
            adapter_name=f"style_{file.stem}",
            prefix=editor.denoiser_part,
        )
    load_ms = 1000 * (time.perf_counter() - start) / len(files)
    times = []
    for turn in range(20):
        start = time.perf_counter()
        denoiser.set_adapters([f"style_{files[turn % len(files)].stem}"], [1.0])
        times.append(1000 * (time.perf_counter() - start))
    print(f"peft: load {load_ms:.0f} ms, switch {statistics.mean(times):.1f} ms")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--requests", type=int, default=24)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    spec = spec_of(options.model)
    editor = load_model(spec, EngineConfig()).editor
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{seed}.safetensors" for seed in range(STYLES)]
        styles = [write_style(editor, file, seed) for seed, file in enumerate(files)]
        adapters = Adapters(editor)
        before, start = psutil.Process().memory_info().rss, time.perf_counter()
        kept = sum(adapters.hold(style).nbytes for style in styles)
        load_ms = 1000 * (time.perf_counter() - start) / STYLES
        grown = psutil.Process().memory_info().rss - before
        loop = DenoiseLoop(editor, Capacity(options.batch), adapters=adapters)
        work = uniform(spec, options.requests, options.side, options.steps)
        ratios = compare(loop, work, styles, options.rounds)
        print_machine(torch.get_num_threads())
        weights = 2 * (weights_bytes(spec) or 0)  # in float32
        print(
            f"{spec.name}: {STYLES} styles of rank {RANK}, {kept / 1e6:.2f} MB beside the "
            f"model's {weights / 1e6:.1f} MB; the process grew by {grown / 1e6:.1f} MB; "
            f"load {load_ms:.0f} ms, switch {1000 * adapters.switch_s / adapters.switches:.2f} ms, "
            f"{adapters.switches} in {options.rounds + 1} rounds"
        )
        for name, values in ratios.items():
            spread = f"({min(values):.2f} - {max(values):.2f})"
            print(f"images/s, {name}: {statistics.median(values):.2f} {spread}")
        if find_spec("peft"):
            print_peft(Path(spec.source), editor, files)


if __name__ == "__main__":
    main()
