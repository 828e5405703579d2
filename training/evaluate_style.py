"""Measure a style of pocket on held-out photographs with requests that were never trained on.

`python -m training.evaluate_style --look film --lora film.safetensors --model FOLDER --output DIR`
edits through diffusers, as `evaluate` does, prints a table with a line for each pair of guidance
scales, and draws a grid for each: source, true edit in the look, ours, ours without the style.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from training.crops import Colours
from training.evaluate import SIDE_PX, Editor, sources_at
from training.looks import LOOKS
from training.measures import nearest, psnr, shows, true_edits
from training.phrase_book import LANGUAGES, free_requests
from training.report import Scales
from training.train_style import SHOWN

HEAD = "| scales | PSNR to the true edit in the look | without the style | in the look | the kind |"


@dataclass(frozen=True)
class Asked:
    """An edit to be judged, and all that it could be."""

    kind: str
    source: Colours
    instruction: str
    plain: dict[str, Colours]  # true edits by kind
    styled: dict[str, Colours]  # the same in the look


def asked_of(look: str, each: int) -> list[Asked]:
    """Each kind on several photographs, in both languages in turn, where the edit can be seen."""
    sources = list(sources_at(SIDE_PX).values())
    plain = [true_edits(source) for source in sources]
    styled = [{name: LOOKS[look](true) for name, true in truths.items()} for truths in plain]
    found = []
    for place, kind in enumerate(SHOWN):
        able = [i for i, truths in enumerate(plain) if shows(kind, truths)]
        for turn in range(min(each, len(able))):
            i = able[(place + turn) % len(able)]
            text = free_requests(LANGUAGES[turn % len(LANGUAGES)], kind)[0]
            found.append(Asked(kind, sources[i], text, plain[i], styled[i]))
    return found


def line_of(scales: Scales, asked: list[Asked], ours: list[Colours], bare: list[Colours]) -> str:
    """The figures of a pair of scales; `bare`: the same edits without the style."""
    near = [psnr(result, a.styled[a.kind]) for result, a in zip(ours, asked, strict=True)]
    far = [psnr(result, a.styled[a.kind]) for result, a in zip(bare, asked, strict=True)]
    looks = [n > psnr(r, a.plain[a.kind]) for n, r, a in zip(near, ours, asked, strict=True)]
    kinds = [nearest(r, a.kind, a.styled) == a.kind for r, a in zip(ours, asked, strict=True)]
    return (
        f"| {scales.text:g}, {scales.image:g} | {np.mean(near):.1f} dB | {np.mean(far):.1f} dB "
        f"| {sum(looks)} of {len(looks)} | {sum(kinds)} of {len(kinds)} |"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--look", choices=LOOKS, required=True)
    parser.add_argument("--lora", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder for the grids")
    parser.add_argument("--scales", nargs="+", default=["3,1.3", "1,1"], help="text,image guidance")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--each", type=int, default=3, help="photographs for each kind")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    asked = asked_of(options.look, options.each)
    sources, texts = [a.source for a in asked], [a.instruction for a in asked]
    editor = Editor(options.model, "cpu")
    scales = [tuple(map(float, pair.split(","))) for pair in options.scales]
    pairs = [Scales(text, image, options.steps) for text, image in scales]
    bare = [editor.edit(sources, texts, pair) for pair in pairs]
    editor.pipeline.load_lora_weights(str(options.lora.parent), weight_name=options.lora.name)
    print(HEAD, "|---|---|---|---|---|", sep="\n")
    for pair, plain in zip(pairs, bare, strict=True):
        ours = editor.edit(sources, texts, pair)
        print(line_of(pair, asked, ours, plain), flush=True)
        true = [a.styled[a.kind] for a in asked]
        rows = [np.concatenate(row, axis=1) for row in (sources, true, ours, plain)]
        name = f"{options.look}-{pair.text:g}-{pair.image:g}.png"
        grid = (np.concatenate(rows) * 255).round().astype(np.uint8)
        Image.fromarray(grid).save(options.output / name)


if __name__ == "__main__":
    main()
