"""What the server adds to the bare engine loop at batch 1, and where it goes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from engine import EditActor, EditOptions, EditResult, EngineConfig
from engine.sources import Source, prepare
from serve_app.ingress.codec_tasks import render

WARM_UP = 3


async def overhead(
    client: httpx.AsyncClient,
    path: str,
    fields: dict[str, str],
    photograph: bytes,
    config: EngineConfig,
    pairs: int,
) -> None:
    """Prints medians in ms of `pairs` edits over HTTP and in this process, in turn, and of the
    parts that can be timed alone: an empty route, decoding, encoding."""
    timed = Stopwatch()
    names = (
        "num_inference_steps",
        "guidance_scale",
        "image_guidance_scale",
        "seed",
        "size",
        "detail",
    )
    given = {name: fields[name] for name in names}
    files = {"image": ("photo.jpg", photograph, "image/jpeg")}
    with EditActor(config) as actor:
        options = actor.spec.resolve(EditOptions.parse(given, strict=False), seed=0)
        source = ("1", Source(photograph), fields["prompt"], options, actor.spec)
        for _ in range(WARM_UP + pairs):
            with timed("http"):
                response = await client.post(path, data=fields, files=files)
            response.raise_for_status()
            with timed("empty route"):
                await client.get("/healthz")
            with timed("decode"):
                prepared = prepare(*source)
            with timed("loop"):
                (outcome,) = actor.edit_batch([prepared.request])
            if not isinstance(outcome, EditResult):
                raise SystemExit(f"an edit failed: {outcome}")
            with timed("encode"):
                render(outcome, prepared.finishing, "png", None)
    print(_summary(timed.medians_ms()))


class Stopwatch:
    """`with timed("part"):` notes how long the block took."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._seconds.setdefault(name, []).append(time.perf_counter() - start)

    def medians_ms(self) -> dict[str, float]:
        """Without the first `WARM_UP`."""
        return {k: 1e3 * statistics.median(v[WARM_UP:]) for k, v in self._seconds.items()}


def _summary(medians_ms: dict[str, float]) -> str:
    added = medians_ms["http"] - medians_ms["loop"]
    parts = {name: medians_ms[name] for name in ("empty route", "decode", "encode")}
    shown = ", ".join(f"{name} {value:.1f}" for name, value in parts.items())
    return (
        f"\nalone: {medians_ms['http']:.1f} ms over HTTP, {medians_ms['loop']:.1f} ms in the bare "
        f"loop: {added:.1f} ms added, of which {shown}, the way to the replica and back "
        f"{added - sum(parts.values()):.1f}"
    )
