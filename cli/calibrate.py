"""`rayedit calibrate`: how many samples of a size fit in the memory, and how many pay."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from engine.calibration import CalibratedSize
    from engine.edit import EditRequest
    from engine.loading import LoadedModel

STEPS = 6
PAYS = 1.05  # twice the samples must make so many times the images a second
HEADER = "# Written by `rayedit calibrate`; name it as `calibration` in the engine's settings.\n"


def calibrate(
    model: Annotated[str, typer.Option(help="Name, folder, or hub_id@revision.")] = "pocket",
    sizes: Annotated[
        list[str] | None, typer.Option("--size", help="WIDTHxHEIGHT in px; may be repeated.")
    ] = None,
    max_samples: Annotated[int, typer.Option(min=1, max=256, help="Try no more than this.")] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, float16, bfloat16.")] = "auto",
    output: Annotated[Path, typer.Option("--output", "-o")] = Path("calibration.yaml"),
) -> None:
    """Measure samples against time and memory, and write the YAML that the engine reads."""
    import torch
    import yaml

    from engine.calibration import Calibration
    from engine.config import EngineConfig
    from engine.edit import parse_size, validate
    from engine.loading import load_model
    from engine.registry import find_model

    spec = find_model(model)
    canvases = [parse_size(size) for size in sizes or [f"{spec.resolution}x{spec.resolution}"]]
    for canvas in canvases:
        spec.check_size(canvas)
    settings = {"model": model, "device": device, "dtype": dtype}
    config = validate(EngineConfig, settings, strict=False)
    torch.set_num_threads(config.threads)
    loaded = load_model(spec, config)
    calibration = Calibration(
        model=spec.name,
        revision=loaded.revision,
        device=loaded.device_name,
        dtype=loaded.dtype,
        sizes=[_measure(loaded, canvas, max_samples) for canvas in canvases],
    )
    output.write_text(HEADER + yaml.safe_dump(calibration.model_dump(), sort_keys=False))
    best = max(size.best_samples for size in calibration.sizes)
    typer.echo(f"{output}: name it as `calibration`, with `max_batch_size: {best}` or more")


def _measure(loaded: LoadedModel, canvas: tuple[int, int], limit: int) -> CalibratedSize:
    """1, 2, 4, ... samples of one size, until they do not fit or no longer pay."""
    from engine.calibration import CalibratedSize
    from engine.capacity import SPARE
    from engine.memory import memory_of

    memory = memory_of(loaded.editor.device)
    _step_s(loaded, canvas, 1)  # what is only loaded at first use is not a sample's
    room = memory.available_bytes() - int(SPARE * memory.total_bytes)
    memory.start()
    times: dict[int, float] = {}
    peaks: dict[int, int] = {}
    for samples in _doubling(limit):
        seconds = _step_s(loaded, canvas, samples)
        peak = memory.peak_bytes()
        if seconds is None or (peak > room and samples > 1):
            break
        times[samples], peaks[samples] = seconds, peak
        typer.echo(
            f"{canvas[0]}x{canvas[1]} px, {samples} samples: {1000 * seconds:.1f} ms a step, "
            f"{1000 * seconds / samples:.1f} ms a sample, {peak / 2**20:.0f} MiB"
        )
        each = (peak - peaks[1]) // max(samples - 1, 1)
        if peak + samples * each > room or not _grew_lately(times):
            break
    most = max(times)
    fitting = limit if each <= 0 else max((room - peaks[1]) // each + 1, 1)
    return CalibratedSize(
        width_px=canvas[0],
        height_px=canvas[1],
        max_samples=min(fitting, limit, 2 * most),
        best_samples=_best(times),
        sample_bytes=max(each, peaks[most] // most),
        step_ms={samples: round(1000 * seconds, 2) for samples, seconds in times.items()},
    )


def _doubling(limit: int) -> Iterator[int]:
    samples = 1
    while samples <= limit:
        yield samples
        samples *= 2


def _best(times: dict[int, float]) -> int:
    """The fewest samples that no larger count beats by `PAYS` in samples a second."""
    rates = {samples: samples / seconds for samples, seconds in times.items()}
    beaten = (
        samples
        for samples, rate in rates.items()
        if all(other <= PAYS * rate for more, other in rates.items() if more > samples)
    )
    return next(beaten)


def _grew_lately(times: dict[int, float]) -> bool:
    """Whether one of the last two doublings paid."""
    return len(times) < 3 or _best(times) >= sorted(times)[-2]


def _step_s(loaded: LoadedModel, canvas: tuple[int, int], samples: int) -> float | None:
    """Seconds of one denoising step of so many samples, whose encoding and decoding are also done;
    `None` where they do not fit."""
    from engine.capacity import Capacity
    from engine.edit import EditResult
    from engine.loop import DenoiseLoop

    loop = DenoiseLoop(loaded.editor, Capacity(samples))
    for k in range(samples):
        loop.admit(_request(loaded, canvas, k))
    seconds, outcomes = [], []
    while not loop.idle:
        start = time.perf_counter()
        outcomes += loop.step()
        seconds.append(time.perf_counter() - start)
    fit = not loop.counters.out_of_memory and all(isinstance(o, EditResult) for o in outcomes)
    return statistics.median(seconds[1:-1]) if fit else None


def _request(loaded: LoadedModel, canvas: tuple[int, int], seed: int) -> EditRequest:
    """An edit of noise: what is drawn changes neither time nor memory."""
    import numpy as np

    from engine.edit import EditOptions, EditRequest

    pixels = np.random.default_rng(seed).integers(0, 256, (canvas[1], canvas[0], 3), np.uint8)
    options = loaded.spec.resolve(EditOptions(num_inference_steps=STEPS), seed)
    return EditRequest(str(seed), pixels, "make it night", options)
