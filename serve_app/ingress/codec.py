"""Decoding and encoding in processes that an image may kill, and a lost process as an error."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from engine.edit import EditResult
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
from engine.sources import Finishing, Prepared
from engine.spec import ModelSpec
from serve_app.ingress.codec_tasks import (
    EncodedImage,
    SentFiles,
    load,
    prepare_source,
    render,
    render_preview,
)

T = TypeVar("T")
ENCODE_TIMEOUT_S = 20.0  # the largest image that `restore_size` may ask for takes about 5 s as PNG


class Codec:
    """Decodes and encodes in the pool of one ingress.

    `decode_s`: processor time that decoding one image may take; `accept`: formats that are taken
    beside JPEG, PNG and WebP; `metadata`: a PNG says what makes it again.
    """

    def __init__(
        self,
        workers: int,
        decode_s: float,
        accept: tuple[str, ...] = (),
        metadata: bool = True,
    ) -> None:
        self._workers, self._decode_s = workers, decode_s
        self._accept, self._metadata = accept, metadata
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
        images: Sequence[bytes | str],
        instruction: str,
        options: ResolvedOptions,
        spec: ModelSpec,
        mask: bytes | str | None = None,
    ) -> Prepared:
        """Decode the images of an edit, and its mask, to model size: each a file, or a data URL.

        Raises `ImageError`, `MaskInvalid`, `OptionError`, and `DeadlineExceeded` or `Overloaded`
        where the machine is too busy.
        """
        try:
            decode_s = self._decode_s * len(images)
            edit = (id, SentFiles(images, mask), instruction, options, spec, self._accept)
            return await self._run(decode_s, prepare_source, *edit)
        except TaskLost as lost:
            raise _decode_error(lost) from lost

    async def render(
        self, result: EditResult, finishing: Finishing, format: str, quality: int | None
    ) -> list[EncodedImage]:
        """Finish and encode the images of an edit. Raises `TransientError`."""
        return await self._encode(render, result, finishing, format, quality, self._metadata)

    async def render_preview(
        self, pixels: np.ndarray, geometry: Geometry, format: str, quality: int | None
    ) -> EncodedImage:
        """Encode a preview, (H, W, 3) uint8 RGB at model size. Raises `TransientError`."""
        return await self._encode(render_preview, pixels, geometry, format, quality)

    async def _encode(self, function: Callable[..., T], *arguments: Any) -> T:
        try:
            return await self._run(ENCODE_TIMEOUT_S, function, *arguments)
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
