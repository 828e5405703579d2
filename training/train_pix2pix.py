"""Fine-tune an InstructPix2Pix on triplets (source, instruction, target), on Ray Train.

    python -m training.train_pix2pix --pretrained_model_name_or_path pocket \\
        --train_data OUT --output_dir DIR --max_train_steps 2000

OUT is an output of `rayedit triplets`, or a manifest with pictures of both sides. What is written
is a diffusers folder for `rayedit edit --model DIR`, or with --rank a LoRA for a style. The same
command again goes on from the last checkpoint; workers that are lost are replaced, and go on too.
"""

from __future__ import annotations

import argparse
import os
import sys

import torch

from engine.errors import EngineError
from engine.models.parts import canvas_sides
from engine.registry import read_json
from training.pix2pix.model import folder_of
from training.pix2pix.options import check, new_parser
from training.pix2pix.workers import prepare, train


def settled(options: argparse.Namespace) -> argparse.Namespace:
    """Fill in what depends on machine and model; raises `EngineError`."""
    check(options)
    folder = folder_of(options.pretrained_model_name_or_path)
    unet, vae = (read_json(folder / part / "config.json") for part in ("unet", "vae"))
    sides = canvas_sides(vae, unet)
    resolution = options.resolution or (sides["resolution"] if unet.get("sample_size") else 0)
    if not resolution:
        raise SystemExit("--resolution is needed: the folder does not say the model's own")
    if resolution % sides["multiple"]:
        raise SystemExit(f"--resolution {resolution}: a multiple of {sides['multiple']} px")
    if options.rank and unet["in_channels"] != 2 * vae["latent_channels"]:
        raise SystemExit("--rank needs a model that edits: this one paints from a text alone")
    values = {
        **vars(options),
        "folder": str(folder),
        "resolution": resolution,
        "device": options.device or ("cuda" if torch.cuda.is_available() else "cpu"),
        "output_dir": options.output_dir.resolve(),
        "train_data": [_absolute(place) for place in options.train_data],
    }
    return argparse.Namespace(**values)


def _absolute(place: str) -> str:
    """Name a place from wherever a worker runs."""
    return place if "://" in place else os.path.abspath(place)


def main() -> None:
    """Command line: `python -m training.train_pix2pix --train_data OUT ...`."""
    try:
        options = settled(new_parser(__doc__).parse_args())
        triplets = prepare(options)
        print(f"{len(triplets):,} triplets -> {options.output_dir}", file=sys.stderr, flush=True)
        train(options)
    except EngineError as error:
        raise SystemExit(f"train_pix2pix: {error.message}") from None


if __name__ == "__main__":
    main()
