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

from engine.edit import EditResult
from engine.errors import Overloaded
from engine.options import EditOptions
from engine.sources import Finishing
from engine.spec import ModelSpec
from serve_app.ingress.codec import Codec
from tests.conftest import jpeg, photograph


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
