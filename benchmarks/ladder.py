"""What each technique is worth: every rung runs the same requests, in turn, round after round."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from functools import partial

import torch

from benchmarks.arithmetic import Flops, matrix_rate
from benchmarks.rivals import Diffusers, Rayedit
from benchmarks.workloads import print_machine, reworded, without_row_packing
from engine import EditRequest, EngineConfig
from engine.capacity import Capacity
from engine.loading import load_model
from engine.loop import DenoiseLoop
from engine.memory import memory_of
from engine.spec import ModelSpec


@dataclass
class Rung:
    """One way to run the requests, and what its runs took."""

    name: str
    rival: Rayedit | Diffusers
    requests: list[EditRequest]
    host_ms: float | None = None
    seconds: list[float] = field(default_factory=list)
    step_ms: list[float] = field(default_factory=list)
    peak_bytes: int = 0


def print_ladder(
    spec: ModelSpec,
    dtype: str,
    requests: list[EditRequest],
    *,
    rounds: int,
    batch: int,
    compiled: bool,
) -> None:
    """Images/s of each rung over those of the first: median (min - max) over the rounds; with ms
    and host ms a step, peak memory, and model FLOP utilisation."""
    loaded = load_model(spec, EngineConfig(dtype=dtype))
    device, torch_dtype = loaded.editor.device, getattr(torch, loaded.dtype)
    rungs = _rungs(spec, device, torch_dtype, requests, batch, compiled)
    memory = memory_of(device)
    for rung in rungs:
        rung.rival.run(rung.requests)
    for turn in range(rounds):
        for rung in rungs[:: 1 if turn % 2 else -1]:
            fresh = reworded(rung.requests, turn)
            memory.start()
            start = time.perf_counter()
            steps = rung.rival.run(fresh)
            rung.seconds.append(time.perf_counter() - start)
            rung.step_ms.append(1000 * rung.seconds[-1] / steps)
            rung.peak_bytes = max(rung.peak_bytes, memory.peak_bytes())
    rate = matrix_rate(device, torch_dtype)
    flops = Flops(loaded.editor, requests[0]).of(requests)
    height, width = requests[0].pixels.shape[:2]
    print_machine(torch.get_num_threads())
    print(
        f"{spec.name}, {loaded.device_name}, {loaded.dtype}: {len(requests)} requests of {width}x"
        f"{height} px, {flops / len(requests) / 1e12:.3f} TFLOP each; matrix products at "
        f"{rate / 1e12:.2f} TFLOP/s"
    )
    print("Peak MiB: beside the weights; what a CUDA graph keeps for itself is not seen.")
    print(f"{'rung':<28}{'over the first':<24}images/s  ms/step  host ms  peak MiB  MFU")
    for rung in rungs:
        print(_line(rung, rungs[0], flops / rate))
        rung.rival.close()


def _line(rung: Rung, first: Rung, ideal_s: float) -> str:
    ratios = [base / own for base, own in zip(first.seconds, rung.seconds, strict=True)]
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})"
    seconds = statistics.median(rung.seconds)
    host = "-" if rung.host_ms is None else f"{rung.host_ms:.1f}"
    return (
        f"{rung.name:<28}{spread:<24}{len(rung.requests) / seconds:8.2f}"
        f"{statistics.median(rung.step_ms):9.1f}{host:>9}{rung.peak_bytes / 2**20:10.0f}"
        f"{ideal_s / seconds:5.0%}"
    )


def _rungs(
    spec: ModelSpec,
    device: torch.device,
    dtype: torch.dtype,
    requests: list[EditRequest],
    batch: int,
    compiled: bool,
) -> list[Rung]:
    """The ladder on this device; what needs a GPU is left out elsewhere, and said."""
    pipeline = partial(Diffusers, spec, device, dtype)
    ours = partial(_ours, spec, device, dtype)
    whole = without_row_packing(requests)
    rungs = [Rung("diffusers, one by one", pipeline(max_batch_size=1), requests)]
    if compiled:
        rival = pipeline(max_batch_size=1, compiled=True)
        rungs.append(Rung("diffusers, compiled", rival, requests))
    settings: dict[str, object] = {"max_batch_size": 1}
    rungs.append(ours("loop, one by one", whole, settings))
    settings |= {"channels_last": True}
    rungs.append(ours("+ channels last", whole, settings))
    if device.type == "cuda":
        settings |= {"cuda_graphs": True}
        rungs.append(ours("+ CUDA graphs", whole, settings))
    else:
        print("no GPU: CUDA graphs and host times are left out")
    if compiled:
        settings |= {"compile": True}
        rungs.append(ours("+ compiled blocks", whole, settings))
    rungs.append(Rung(f"diffusers, batches of {batch}", pipeline(max_batch_size=batch), requests))
    settings |= {"max_batch_size": batch}
    rungs.append(ours(f"+ batches of {batch}", whole, settings))
    rungs.append(ours("+ row packing", requests, settings))
    return rungs


def _ours(
    spec: ModelSpec,
    device: torch.device,
    dtype: torch.dtype,
    name: str,
    requests: list[EditRequest],
    settings: dict[str, object],
) -> Rung:
    config = {"device": str(device), "dtype": str(dtype).removeprefix("torch."), **settings}
    rung = Rung(name, Rayedit(spec, **config), requests)
    if device.type == "cuda":
        rung.host_ms = _host_step_ms(spec, EngineConfig.model_validate(config), requests)
    return rung


def _host_step_ms(spec: ModelSpec, config: EngineConfig, requests: list[EditRequest]) -> float:
    """The host's time to launch one step, ms: the GPU has nothing else to do meanwhile."""
    loop = DenoiseLoop(
        load_model(spec, config).editor,
        Capacity(config.max_batch_size),
        cuda_graphs=config.cuda_graphs,
    )
    for request in requests[: config.max_batch_size]:
        loop.admit(request)
    times = []
    while not loop.idle:
        torch.cuda.synchronize()
        start = time.perf_counter()
        loop.step()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)
