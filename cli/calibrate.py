"""`rayedit calibrate`: how many samples of a size fit in the memory, and how many pay."""

from __future__ import annotations

import io
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import OptionInvalid, OutOfMemory

if TYPE_CHECKING:
    from engine.calibration import CalibratedSize
    from engine.config import EngineConfig
    from engine.edit import EditRequest
    from engine.loading import LoadedModel

STEPS = 6
PAYS = 1.05  # twice the samples must make so many times the images a second
HEADER = "# Written by `rayedit calibrate`; name it as `calibration` in the engine's settings.\n"


def calibrate(
    config: Annotated[Path | None, typer.Option(help="YAML of the engine's settings.")] = None,
    model: Annotated[str | None, typer.Option(help="Name, folder, or hub_id@revision.")] = None,
    sizes: Annotated[
        list[str] | None, typer.Option("--size", help="WIDTHxHEIGHT in px; may be repeated.")
    ] = None,
    max_samples: Annotated[int, typer.Option(min=1, max=256, help="Try no more than this.")] = 32,
    output: Annotated[Path, typer.Option("--output", "-o")] = Path("calibration.yaml"),
) -> None:
    """Measure samples against time and memory, and write the YAML that the engine reads."""
    _check_place(output)
    import torch
    import yaml

    from engine.calibration import Calibration
    from engine.config import EngineConfig, load_config
    from engine.loading import cost_settings, load_model
    from engine.size import parse_size

    settings = load_config(config, EngineConfig, "engine", model=model)
    settings = settings.model_copy(update={"calibration": None})
    spec = settings.find_model()
    canvases = [parse_size(size) for size in sizes or [f"{spec.resolution}x{spec.resolution}"]]
    for canvas in canvases:
        spec.check_size(canvas)
    torch.set_num_threads(settings.threads)
    bench = Bench(load_model(spec, settings), settings)
    calibration = Calibration(
        model=spec.name,
        revision=bench.loaded.revision,
        device=bench.loaded.device_name,
        dtype=bench.loaded.dtype,
        settings=cost_settings(settings, bench.loaded.editor.device),
        sizes=[_measure(bench, canvas, max_samples) for canvas in canvases],
    )
    output.write_text(HEADER + yaml.safe_dump(calibration.model_dump(), sort_keys=False))
    best = max(size.samples for size in calibration.sizes)
    typer.echo(f"{output}: name it as `calibration`, with `max_batch_size: {best}` or more")


def _check_place(output: Path) -> None:
    place = output if output.exists() else output.resolve().parent
    if output.is_dir() or not os.access(place, os.W_OK):
        raise OptionInvalid(
            f"--output {output}: name a file in a folder that exists and can be written to"
        )


def _measure(bench: Bench, canvas: tuple[int, int], limit: int) -> CalibratedSize:
    """1, 2, 4, ... samples of one size, until they do not fit or no longer pay."""
    from engine.calibration import CalibratedSize
    from engine.capacity import SPARE
    from engine.memory import memory_of

    memory = memory_of(bench.loaded.editor.device)
    bench.step_s(canvas, 1)  # what is only loaded at first use is not a sample's
    room = memory.available_bytes() - int(SPARE * memory.total_bytes)
    memory.start()
    times: dict[int, float] = {}
    each = first = 0
    for samples in _doubling(limit):
        seconds, peak = bench.step_s(canvas, samples), memory.peak_bytes()
        if seconds is None or (peak > room and samples > 1):
            break
        times[samples] = seconds
        first = first or peak
        each = max((peak - first) // max(samples - 1, 1), 0)
        typer.echo(
            f"{canvas[0]}x{canvas[1]} px, {samples} samples: {1000 * seconds:.1f} ms a step, "
            f"{1000 * seconds / samples:.1f} ms a sample, {peak / 2**20:.0f} MiB"
        )
        if peak + samples * each > room or not _grew_lately(times):
            break
    if not times:
        raise OutOfMemory(f"not one sample of {canvas[0]}x{canvas[1]} px fits in the memory")
    return CalibratedSize(
        width_px=canvas[0],
        height_px=canvas[1],
        samples=_best(times),
        sample_bytes=max(each, first),
        step_ms={samples: round(1000 * seconds, 2) for samples, seconds in times.items()},
    )


def _doubling(limit: int) -> Iterator[int]:
    samples = 1
    while samples <= limit:
        yield samples
        samples *= 2


def _best(times: dict[int, float]) -> int:
    """Find the fewest samples that no larger count beats by `PAYS` in samples a second."""
    rates = {samples: samples / seconds for samples, seconds in times.items()}
    beaten = (
        samples
        for samples, rate in rates.items()
        if all(other <= PAYS * rate for more, other in rates.items() if more > samples)
    )
    return next(beaten)


def _grew_lately(times: dict[int, float]) -> bool:
    """Tell whether one of the last two doublings paid."""
    return len(times) < 3 or _best(times) >= sorted(times)[-2]


class Bench:
    """Times the steps of a loaded model."""

    def __init__(self, loaded: LoadedModel, settings: EngineConfig) -> None:
        self.loaded = loaded
        self._settings = settings

    def step_s(self, canvas: tuple[int, int], samples: int) -> float | None:
        """Time one denoising step of so many samples, whose encoding and decoding are also done, in
        seconds; `None` where they do not fit. Raises `EngineError` for what else fails."""
        from engine.capacity import Capacity
        from engine.edit import EditFailure
        from engine.loop import DenoiseLoop

        graphs = self._settings.cuda_graphs
        loop = DenoiseLoop(self.loaded.editor, Capacity(samples), cuda_graphs=graphs)
        for k in range(samples):
            loop.admit(self._request(canvas, k))
        seconds, outcomes = [], []
        while not loop.idle:
            start = time.perf_counter()
            outcomes += loop.step()
            seconds.append(time.perf_counter() - start)
        failed = [outcome for outcome in outcomes if isinstance(outcome, EditFailure)]
        for failure in failed:
            if failure.code != OutOfMemory.code:
                raise failure.error()
        if failed or loop.counters.out_of_memory:
            return None
        return statistics.median(seconds[1:-1])

    def _request(self, canvas: tuple[int, int], seed: int) -> EditRequest:
        """Make an edit of noise: what is drawn changes neither time nor memory."""
        import numpy as np
        from PIL import Image

        from engine.options import EditOptions
        from engine.sources import Source, prepare

        width, height = canvas
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        spec = self.loaded.spec
        asked = EditOptions(num_inference_steps=STEPS, size=f"{width}x{height}")
        options = spec.resolve(asked, seed)
        return prepare(str(seed), Source(file.getvalue()), "make it night", options, spec).request
