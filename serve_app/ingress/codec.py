"""Decoding and encoding in processes that an image may kill, and a lost process as an error."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from engine.errors import (
    DeadlineExceeded,
    EngineError,
    ImageTooLarge,
    ImageUnreadable,
    Overloaded,
    WorkerCrashed,
)
from engine.geometry import Geometry
from engine.options import ResolvedOptions
from engine.pool import DecodePool, TaskLost
from engine.sources import Prepared
from engine.spec import ModelSpec
from serve_app.ingress.codec_tasks import load, prepare_source, render

T = TypeVar("T")
ENCODE_TIMEOUT_S = 20.0  # the largest image that `restore_size` may ask for takes about 5 s as PNG


class Codec:
    """Decodes and encodes in the pool of one ingress. `decode_s`: processor time that decoding one
    image may take."""

    def __init__(self, workers: int, decode_s: float) -> None:
        self._workers, self._decode_s = workers, decode_s
        self._pool = DecodePool(workers, load=load)

    def warm_up(self) -> None:
        """Start the processes; returns when all of them are loaded."""
        for future in [self._pool.submit(1.0, load) for _ in range(self._workers)]:
            future.result()

    def close(self) -> None:
        self._pool.close()

    async def decode(
        self,
        id: str,
        source: bytes | str,
        instruction: str,
        options: ResolvedOptions,
        spec: ModelSpec,
    ) -> Prepared:
        """Decode a source to model size. `source`: an image file, or a data URL.

        Raises `ImageError`, `OptionError`, and `DeadlineExceeded` or `Overloaded` where the machine
        is too busy.
        """
        try:
            return await self._run(
                self._decode_s, prepare_source, id, source, instruction, options, spec
            )
        except TaskLost as lost:
            raise _decode_error(lost) from lost

    async def encode(
        self, images: Sequence[np.ndarray], geometry: Geometry, format: str, quality: int | None
    ) -> tuple[list[str], tuple[int, int]]:
        """Encode edited canvases, (H, W, 3) uint8 RGB; returns base64 files, and their common
        (width, height) in px. Raises `TransientError`."""
        try:
            return await self._run(ENCODE_TIMEOUT_S, render, images, geometry, format, quality)
        except TaskLost as lost:
            raise WorkerCrashed(f"the edited image could not be encoded: {lost.kind}") from lost

    async def _run(self, timeout_s: float, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in a process of the pool; it is killed when its caller leaves. Raises
        `Overloaded` and `TaskLost`."""
        gone = threading.Event()
        task = self._pool.submit(timeout_s, function, *arguments, stop=gone)
        try:
            return await asyncio.wrap_future(task)
        except TaskLost as lost:
            if lost.kind != "killed":
                raise
            raise Overloaded(
                "the machine ended the process that had the image, which it does when it is short "
                "of memory; try again"
            ) from lost
        finally:
            gone.set()


def _decode_error(lost: TaskLost) -> EngineError:
    if lost.kind == "slow":
        return ImageUnreadable(
            f"decoding the image takes more than {lost.limit}; save it anew, without interlacing "
            "or progressive scans"
        )
    if lost.kind == "memory":
        return ImageTooLarge(f"decoding the image needs more than {lost.limit} of memory")
    if lost.kind == "died":
        return ImageUnreadable("the decoder crashed on the image")
    return DeadlineExceeded(
        f"the image was not decoded within {lost.limit}: the server is too busy; try again later"
    )
