"""What the source's detail and `preserve` are worth, on every kind of edit that pocket knows.

Held-out photographs are edited on a canvas of 1/k of their size, and what comes back at their own
size is compared with the true edit, the kind's own arithmetic at that size. Prints a table by kind.

    python -m benchmarks.bench_detail               # all kinds: PSNR, and where the edit happened
    python -m benchmarks.bench_detail --time 24     # seconds and memory of 24 megapixels
"""

from __future__ import annotations

import argparse
import resource
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import mean

import cv2
import numpy as np
from PIL import Image

from benchmarks.cuts import CUTS, SPEC, Photograph, photographs
from benchmarks.workloads import print_machine
from engine import EditActor, EditOptions, EditRequest, EditResult, EngineConfig
from engine.detail import Enlargement, fit_local_map, planes_of
from engine.finishing import Canvases, Wanted, finish
from engine.geometry import from_canvas, plan_geometry, to_canvas
from engine.preserve import map_edit
from training.kinds import KINDS
from training.measures import psnr, shows, true_edits
from training.photographs import held_out
from training.phrase_book import free_requests

LOCAL = ("sky_", "frame_", "keep_")
CHANGED = 0.06  # mean over the channels of 0..1; a pixel that the true edit changes by more
AWAY_PX = 5


@dataclass(frozen=True)
class Score:
    """One edit: PSNR in dB to the true edit, and how well its place was found."""

    kind: str
    canvas_db: float  # the model's own picture, at its size
    plain_db: float  # enlarged
    detail_db: float
    preserve_db: float  # with detail and preserve
    overlap: float  # intersection over union of changed and truly changed pixels
    kept_outside: float  # share of the pixels away from the edit that are the source's bytes
    is_global: bool


def edits(actor: EditActor, photograph: Photograph, steps: int) -> Iterator[tuple[str, np.ndarray]]:
    """Edit a photograph in every way that shows on it, by a request nobody trained on."""
    truths = true_edits(unit(photograph.canvas))
    kinds = [kind for kind in KINDS if shows(kind, truths)]
    options = SPEC.resolve(EditOptions(num_inference_steps=steps), seed=1)
    requests = [
        EditRequest(
            f"{photograph.name} {kind}",
            photograph.canvas,
            free_requests("english", kind)[0],
            options,
            digest=photograph.name,
        )
        for kind in kinds
    ]
    for kind, outcome in zip(kinds, actor.edit_batch(requests), strict=True):
        if not isinstance(outcome, EditResult):
            raise SystemExit(f"{outcome.id}: {outcome.message}")
        yield kind, outcome.images[0]


def score(kind: str, photograph: Photograph, edited: np.ndarray) -> Score:
    """Finish an edit in every way, and compare it with the true one."""
    source, geometry = photograph.pixels, photograph.geometry
    canvases = Canvases(photograph.canvas, photograph.reconstructed, edited)
    plain = np.asarray(from_canvas(edited, geometry))
    whole = Image.fromarray(source)
    detail = finish(canvases, whole, geometry, Wanted(detail=True))
    kept = finish(canvases, whole, geometry, Wanted(detail=True, preserve=True))
    true = KINDS[kind].apply(unit(source))
    overlap, outside = place(canvases, source, true, geometry.output)
    return Score(
        kind=kind,
        canvas_db=psnr(unit(edited), KINDS[kind].apply(unit(photograph.canvas))),
        plain_db=psnr(unit(plain), true),
        detail_db=psnr(unit(detail.pixels), true),
        preserve_db=psnr(unit(kept.pixels), true),
        overlap=overlap,
        kept_outside=outside,
        is_global="edit_is_global" in kept.warnings,
    )


def place(
    canvases: Canvases, source: np.ndarray, true: np.ndarray, size: tuple[int, int]
) -> tuple[float, float]:
    """Intersection over union of the pixels of the map, and the share kept away from the edit."""
    local = fit_local_map(canvases.reconstructed, canvases.edited)
    found = map_edit(local, planes_of(canvases.source))
    fields = np.concatenate([local.slope, (local.offset + found.correction)[:, None]], axis=1)
    colours = planes_of(source)
    change = Enlargement(fields, size).mapped(colours, 0) - colours
    ours = found.share(change) > 0
    theirs = np.abs(true - unit(source)).mean(axis=-1) > CHANGED
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * AWAY_PX + 1,) * 2)
    away = cv2.dilate(theirs.astype(np.uint8), kernel) == 0
    outside = float((~ours)[away].mean()) if away.any() else float("nan")
    return float((ours & theirs).sum() / max((ours | theirs).sum(), 1)), outside


def unit(pixels: np.ndarray) -> np.ndarray:
    """Bring uint8 to float32 in 0..1."""
    return pixels.astype(np.float32) / 255


def print_table(scores: list[Score]) -> None:
    """A line a kind, in dB and shares; then the bars."""
    by_kind: dict[str, list[Score]] = defaultdict(list)
    for one in scores:
        by_kind[one.kind].append(one)
    print(
        "| kind | edits | canvas | plain | detail | gain | + preserve | overlap | kept | global |"
    )
    print("|" + "---|" * 10)
    for kind, ones in [*by_kind.items(), ("all", scores)]:
        figures = [
            mean(getattr(o, f) for o in ones) for f in ("canvas_db", "plain_db", "detail_db")
        ]
        canvas, plain, detail = figures
        print(
            f"| {kind} | {len(ones)} | {canvas:.1f} | {plain:.1f} | {detail:.1f} "
            f"| {detail - plain:+.2f} | {mean(o.preserve_db for o in ones) - detail:+.2f} "
            f"| {mean(o.overlap for o in ones):.2f} | {kept_away(ones):.2f} "
            f"| {sum(o.is_global for o in ones)} |"
        )


def kept_away(scores: list[Score]) -> float:
    """The mean share kept, of the edits that leave pixels alone at all."""
    shares = [one.kept_outside for one in scores if not np.isnan(one.kept_outside)]
    return mean(shares) if shares else float("nan")


def print_bars(scores: list[Score]) -> None:
    """What is promised, and what came out."""
    gains = defaultdict(list)
    for one in scores:
        gains[one.kind].append(one.detail_db - one.plain_db)
    worst = min(gains, key=lambda kind: mean(gains[kind]))
    local = [one for one in scores if one.kind.startswith(LOCAL) and "+" not in one.kind]
    whole = [one for one in scores if not KINDS[one.kind].local]
    print(f"gain over plain, mean: {mean(o.detail_db - o.plain_db for o in scores):+.2f} dB")
    print(f"over the canvas' own: {mean(o.detail_db - o.canvas_db for o in scores):+.2f} dB")
    print(f"least gain of a kind: {worst} {mean(gains[worst]):+.2f} dB")
    print(f"overlap on {len(local)} local edits: {mean(o.overlap for o in local):.3f}")
    print(f"kept away from them: {kept_away(local):.3f}")
    print(f"nothing pasted on {sum(o.is_global for o in whole)} of {len(whole)} global edits")


def print_time(megapixels: int) -> None:
    """Seconds and memory, beside the source, of finishing one large picture in a fresh process."""
    width, height = round((megapixels * 1.5e6) ** 0.5), round((megapixels / 1.5e-6) ** 0.5)
    source = cv2.resize(held_out()["china"], (width, height), interpolation=cv2.INTER_CUBIC)
    geometry = plan_geometry((width, height), EditOptions(restore_size=True), SPEC)
    whole = Image.fromarray(source)
    canvas = to_canvas(whole, geometry)
    canvases = Canvases(canvas, canvas, np.where(canvas > 128, canvas, canvas // 2))
    mask = np.full((height, width), 128, np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for wanted in (Wanted(True), Wanted(True, True), Wanted(True, True, mask)):
        start, busy = time.perf_counter(), time.process_time()
        finish(canvases, whole, geometry, wanted)
        busy = time.process_time() - busy
        seconds = time.perf_counter() - start
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        asked = [wanted.detail, wanted.preserve, wanted.mask is not None]
        print(
            f"{width}x{height}, detail, preserve, mask {asked}: {seconds:.2f} s, "
            f"{busy:.2f} s of processor, {peak:.0f} MiB"
        )


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", nargs="+", choices=CUTS, default=list(CUTS))
    parser.add_argument("--steps", type=int, default=SPEC.defaults["num_inference_steps"])
    parser.add_argument("--time", type=int, metavar="MEGAPIXELS", help="of one large picture alone")
    options = parser.parse_args()
    if options.time:
        print_time(options.time)
        return
    actor = EditActor(EngineConfig(device="cpu"), SPEC)
    print_machine(actor.config.threads)
    scores = [
        score(kind, photograph, edited)
        for photograph in photographs(options.photographs)
        for kind, edited in edits(actor, photograph, options.steps)
    ]
    actor.close()
    print_table(scores)
    print_bars(scores)


if __name__ == "__main__":
    main()
