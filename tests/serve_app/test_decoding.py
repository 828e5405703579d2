"""The processes that decode and encode: they end with their caller, and their death is ours."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import numpy as np
import psutil
import pytest
from PIL import Image

from engine.edit import EditResult
from engine.errors import Overloaded
from engine.options import EditOptions
from engine.sources import Finishing
from engine.spec import ModelSpec
from engine.wire import OutputFormat
from serve_app.ingress.codec import Codec
from serve_app.ingress.codec_tasks import EncodedImage, check_output
from tests.conftest import jpeg, photograph
from tests.engine.files import saved


@asynccontextmanager
async def encoding(spec: ModelSpec) -> AsyncIterator[tuple[asyncio.Task[object], psutil.Process]]:
    """Many large images on their way to PNG, which takes a minute, and the process that does it."""
    others = psutil.Process().children()
    codec = Codec(1, decode_s=60)
    photo = jpeg(np.tile(photograph("coffee"), (5, 5, 1)))
    options = spec.resolve(EditOptions(restore_size=True), seed=0)
    prepared = await codec.decode("a", [photo], "make it night", options, spec)
    geometry = prepared.finishing.geometry
    (process,) = set(psutil.Process().children()) - set(others)
    result = EditResult("a", [prepared.request.pixels] * 50, list(range(50)))
    task = asyncio.create_task(codec.render(result, Finishing(geometry), "png", None))
    await asyncio.sleep(0.3)
    yield task, process
    codec.close()


def test_what_is_encoded_for_a_client_that_leaves_is_encoded_no_further(
    pocket: ModelSpec,
) -> None:
    async def leave() -> None:
        async with encoding(pocket) as (task, process):
            assert process.is_running()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await asyncio.to_thread(process.wait, 10)

    asyncio.run(leave())


def test_a_process_that_the_machine_kills_is_a_503_to_try_again(pocket: ModelSpec) -> None:
    async def kill() -> None:
        async with encoding(pocket) as (task, process):
            os.kill(process.pid, signal.SIGKILL)
            with pytest.raises(Overloaded, match="memory"):
                await task

    asyncio.run(kill())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "sigma", "format", "quality"),
    [
        ((8333, 6000), 20, "png", None),
        ((5290, 5290), 40, "webp", 100),
        ((3460, 3460), 40, "webp", 100),
    ],
)
def test_the_largest_pictures_are_encoded_where_they_are_full_of_noise(
    pocket: ModelSpec, size: tuple[int, int], sigma: int, format: OutputFormat, quality: int | None
) -> None:
    noise = np.random.default_rng(0).normal(128, sigma, (1000, size[0], 3))
    rows = np.tile(noise.clip(0, 255).astype(np.uint8), (-(-size[1] // 1000), 1, 1))
    photo = saved(Image.fromarray(rows[: size[1]]), "JPEG", quality=60)
    wishes = EditOptions(detail="source", preserve="auto", restore_size=True)
    options = pocket.resolve(wishes, seed=0)
    check_output(format, options, size[0] * size[1])

    async def edit() -> list[EncodedImage]:
        codec = Codec(1, decode_s=60)
        try:
            prepared = await codec.decode("a", [photo], "make it night", options, pocket)
            canvas = prepared.request.pixels
            result = EditResult("a", [canvas], [0], reconstructed=canvas)
            return await codec.render(result, prepared.finishing, format, quality)
        finally:
            codec.close()

    (made,) = asyncio.run(edit())
    assert made.size == size and 2 * len(made.b64) > size[0] * size[1]
