"""Measure pocket on held-out photographs with requests that were never trained on: RESULTS.md.

`python -m training.evaluate --model FOLDER` loads the folder as any user would, through
StableDiffusionInstructPix2PixPipeline, and edits with its defaults, or with --scales and --steps.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image

from engine.catalogue import POCKET
from engine.models.known_edits import has_known_edits
from training.crops import Colours
from training.further_kinds import FURTHER, KINDS_AND_FURTHER
from training.kinds import KINDS
from training.measures import distance, edge_correlation, nearest, psnr, shows, true_edits
from training.photographs import held_out, square
from training.phrase_book import LANGUAGES, free_requests
from training.report import Judged, Report, Scales, write_report
from training.text_encoder import TextEncoder
from training.train_autoencoder import psnr_held_out
from training.understanding import understood, warned_of

SIDE_PX = 128
DEFAULTS = Scales(
    POCKET.defaults["guidance_scale"],
    POCKET.defaults["image_guidance_scale"],
    POCKET.defaults["num_inference_steps"],
)
TEXT_SCALES, IMAGE_SCALES = (1.5, 3.0, 7.5), (1.0, 1.5, 2.5)
SCALE_KINDS = ("sepia", "night", "fog", "tint_blue", "vignette")
SCALE_PHOTOGRAPHS = ("chelsea", "china")
TIMED_SIDES_PX = (128, 256)
UNET_FILE = "unet/diffusion_pytorch_model.safetensors"

Request = tuple[str, str, str]  # photograph, language, instruction


class Editor:
    """The pipeline, loaded from a folder, in float32 on the CPU or float16 on a GPU."""

    def __init__(self, folder: Path, device: str) -> None:
        dtype = torch.float16 if device == "cuda" else torch.float32
        pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(
            folder, safety_checker=None, dtype=dtype
        )
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline = pipeline.to(device)

    def edit(self, sources: list[Colours], texts: list[str], scales: Scales) -> list[Colours]:
        """Edit picture i as text i says; the noise of picture i is seeded with i."""
        images = [Image.fromarray((s * 255).round().astype(np.uint8)) for s in sources]
        found = self.pipeline(
            texts,
            image=images,
            num_inference_steps=scales.steps,
            guidance_scale=scales.text,
            image_guidance_scale=scales.image,
            generator=[torch.Generator().manual_seed(i) for i in range(len(texts))],
            output_type="np",
        )
        return [np.asarray(picture, dtype=np.float32) for picture in found.images]


def sources_at(side_px: int) -> dict[str, Colours]:
    """The held-out photographs as (side_px, side_px, 3) float32 in 0..1."""
    return {n: square(p, side_px).astype(np.float32) / 255.0 for n, p in held_out().items()}


class Workers:
    """Processes of one thread each, every one with its own copy of the model.

    On a CPU they do twice as many edits as one process of as many threads.
    """

    editor: Editor  # in a worker
    scales: Scales  # in a worker

    def __init__(self, options: argparse.Namespace) -> None:
        self.pool = ProcessPoolExecutor(
            options.processes,
            mp_context=get_context("spawn"),
            initializer=self.load,
            initargs=(options.model, options.device, options.scales),
        )

    @classmethod
    def load(cls, folder: Path, device: str, scales: Scales) -> None:
        """In a worker, once."""
        torch.set_num_threads(1)
        cls.scales = scales
        cls.editor = Editor(folder, device)

    def judge_all(self, asked: dict[str, list[Request]]) -> list[Judged]:
        """Edits of every kind, in order; one line printed for each."""
        judged: list[Judged] = []
        for ours in self.pool.map(judge, asked, asked.values()):
            others = Counter(j.nearest for j in ours if not j.right)
            name = ours[0].kind if ours else "(nothing to see)"
            print(name, f"{sum(j.right for j in ours)}/{len(ours)}", dict(others), flush=True)
            judged += ours
        return judged

    def distances(self, scales: list[Scales]) -> list[float]:
        """Mean distance to the source at each pair of scales."""
        return list(self.pool.map(mean_distance, scales))


def judge(kind: str, asked: list[Request]) -> list[Judged]:
    """In a worker: edits of one kind, those that can be seen."""
    editor = Workers.editor
    sources = sources_at(SIDE_PX)
    further = [kind] if kind in FURTHER else []  # no rival of those that pocket was taught
    truths = {name: true_edits(sources[name], further) for name, _, _ in asked}
    asked = [a for a in asked if shows(kind, truths[a[0]])]
    if not asked:
        return []
    pictures, texts = [sources[a[0]] for a in asked], [a[2] for a in asked]
    results = editor.edit(pictures, texts, Workers.scales)
    return [
        Judged(
            kind=kind,
            photograph=photograph,
            language=language,
            instruction=instruction,
            nearest=nearest(result, kind, truths[photograph]),
            psnr_db=psnr(result, truths[photograph][kind]),
            edges=edge_correlation(result, truths[photograph][kind]),
        )
        for result, (photograph, language, instruction) in zip(results, asked, strict=True)
    ]


def free_form(kind: str, each: int) -> list[Request]:
    """The first freely worded requests of a kind, each on another photograph."""
    names = list(held_out())
    texts = [(lang, text) for lang in LANGUAGES for text in free_requests(lang, kind)[:each]]
    offset = list(KINDS_AND_FURTHER).index(kind)
    return [(names[(i + offset) % len(names)], *pair) for i, pair in enumerate(texts)]


def mean_distance(scales: Scales) -> float:
    """In a worker: mean root mean square distance to the source, of 255."""
    editor = Workers.editor
    sources = sources_at(SIDE_PX)
    chosen = [sources[name] for name in SCALE_PHOTOGRAPHS]
    distances = []
    for kind in SCALE_KINDS:
        text = free_requests("english", kind)[0]
        results = editor.edit(chosen, [text] * len(chosen), scales)
        distances += [distance(r, s) for r, s in zip(results, chosen, strict=True)]
    return float(np.mean(distances))


def seconds_an_edit(editor: Editor, side_px: int, scales: Scales, repeats: int = 3) -> float:
    """Median wall time of one edit, after one to warm up."""
    source = [sources_at(side_px)["chelsea"]]
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        editor.edit(source, ["make it night"], scales)
        times.append(time.perf_counter() - began)
    return float(np.median(times[1:]))


def evaluate(options: argparse.Namespace) -> Report:
    """Everything that RESULTS.md shows."""
    workers = Workers(options)
    kinds = [*list(KINDS)[:: options.every], *options.further]
    judged = workers.judge_all({k: free_form(k, options.each) for k in kinds})
    texts = [replace(options.scales, text=scale) for scale in TEXT_SCALES]
    images = [replace(options.scales, image=scale) for scale in IMAGE_SCALES]
    distances = workers.distances(texts + images)
    workers.pool.shutdown()
    torch.set_num_threads(options.threads)
    editor = Editor(options.model, options.device)
    encoder = TextEncoder.load(options.model)
    return Report(
        scales=options.scales,
        weights=hashlib.sha256((options.model / UNET_FILE).read_bytes()).hexdigest(),
        reconstruction_db=psnr_held_out(editor.pipeline.vae.float()),
        judged=judged,
        understood=understood(encoder),
        warned=warned_of(encoder, options.model) if has_known_edits(options.model) else {},
        by_text=dict(zip(TEXT_SCALES, distances[: len(texts)], strict=True)),
        by_image=dict(zip(IMAGE_SCALES, distances[len(texts) :], strict=True)),
        seconds={side: seconds_an_edit(editor, side, options.scales) for side in TIMED_SIDES_PX},
        size_bytes=sum(f.stat().st_size for f in options.model.rglob("*") if f.is_file()),
    )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("engine/models/pocket"))
    parser.add_argument("--scales", type=float, nargs=2, metavar=("TEXT", "IMAGE"))
    parser.add_argument("--steps", type=int, default=DEFAULTS.steps)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "RESULTS.md")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--every", type=int, default=1, help="every n-th kind only, for a quick look"
    )
    parser.add_argument(
        "--further", nargs="*", choices=FURTHER, default=(), help="kinds that pocket was not taught"
    )
    parser.add_argument("--each", type=int, default=3, help="requests a kind and language")
    parser.add_argument("--processes", type=int, default=2, help="workers of one thread each")
    parser.add_argument("--threads", type=int, default=2, help="for the timing")
    options = parser.parse_args()
    text, image = options.scales or (DEFAULTS.text, DEFAULTS.image)
    options.scales = Scales(text, image, options.steps)
    return options


def main() -> None:
    """Command line: `python -m training.evaluate --model FOLDER`."""
    options = parse()
    write_report(evaluate(options), options.output)


if __name__ == "__main__":
    main()
