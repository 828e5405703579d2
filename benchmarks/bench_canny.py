"""A shop's pictures in one look: one prompt, one seed, each under its own edges.

The script that people write (diffusers' ControlNet pipeline, a picture after the other) against
rayedit, in turn, a part of the pictures at a time: the same JPEG files in, PNG files out, weights,
threads, float32 on the CPU. The weights are random, in Stable Diffusion's architecture: speed does
not depend on what they are. Prints ratios of images/s.

    python -m benchmarks.bench_canny
    python -m benchmarks.bench_canny --channels 320 --side 64 --images 8 --steps 4   # its true size
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    PNDMScheduler,
    StableDiffusionControlNetPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from benchmarks.workloads import print_machine
from engine import EditActor, EditOptions, EditResult, EngineConfig
from engine.catalogue import POCKET
from engine.images import encode
from engine.results import finished_images
from engine.sources import Source, prepare

PROMPT, NEGATIVE, SEED = "a watercolour, soft light", "blurry", 42
Run = Callable[[list[bytes]], list[bytes]]  # JPEG files to PNG files


def write_folder(folder: Path, channels: int) -> None:
    """Write random weights; `channels`: of the UNet's first level, 320 in Stable Diffusion.

    Tokenizer and text encoder are pocket's.
    """
    torch.manual_seed(0)
    text_encoder = CLIPTextModel.from_pretrained(Path(POCKET.source) / "text_encoder")
    unet = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(channels, 2 * channels, 4 * channels, 4 * channels),
        cross_attention_dim=text_encoder.config.hidden_size,
    )
    controlnet = ControlNetModel.from_unet(unet)
    for block in (*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block):
        torch.nn.init.normal_(block.weight, std=0.02)  # zeros, before it is trained
    vae = AutoencoderKL(
        block_out_channels=(32, 64, 128, 128),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
    )
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    StableDiffusionControlNetPipeline(
        tokenizer=CLIPTokenizer.from_pretrained(Path(POCKET.source) / "tokenizer"),
        text_encoder=text_encoder,
        unet=unet,
        controlnet=controlnet,
        vae=vae,
        scheduler=PNDMScheduler(**betas, skip_prk_steps=True, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def photographs(count: int, side: int) -> list[bytes]:
    """JPEG files of `side` px: random shapes, so that there are edges."""
    files = []
    for seed in range(count):
        coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
        image = Image.fromarray(coarse).resize((side, side), Image.Resampling.NEAREST)
        files.append(encode(image, "jpeg"))
    return files


def script(folder: Path, steps: int) -> Run:
    """Edit picture by picture, as the pipeline's documentation shows it."""
    pipeline: Any = StableDiffusionControlNetPipeline.from_pretrained(
        folder, dtype=torch.float32, safety_checker=None
    )
    pipeline.set_progress_bar_config(disable=True)

    def edited(file: bytes) -> bytes:
        image = Image.open(io.BytesIO(file)).convert("RGB")
        edges = cv2.Canny(np.asarray(image), 100, 200)
        drawn = pipeline(
            PROMPT,
            image=Image.fromarray(np.repeat(edges[..., None], 3, axis=2)),
            negative_prompt=NEGATIVE,
            num_inference_steps=steps,
            generator=torch.Generator("cpu").manual_seed(SEED),
        ).images[0]
        return encode(drawn)

    return lambda files: [edited(file) for file in files]


def rayedit(actor: EditActor, steps: int) -> Run:
    """Edit all together, as a job's stages do."""
    spec = actor.spec
    asked = EditOptions(num_inference_steps=steps, negative_prompt=NEGATIVE)
    options = spec.resolve(asked, SEED)

    def run(files: list[bytes]) -> list[bytes]:
        prepared = [
            prepare(str(i), Source(file), PROMPT, options, spec) for i, file in enumerate(files)
        ]
        made = []
        for one, outcome in zip(
            prepared, actor.edit_batch([one.request for one in prepared]), strict=True
        ):
            if not isinstance(outcome, EditResult):
                raise SystemExit(f"an edit failed: {outcome}")
            made += [encode(done.picture) for done in finished_images(outcome, one.finishing)]
        return made

    return run


def contest(rivals: dict[str, Run], files: list[bytes], turns: int) -> None:
    """Print rayedit's images/s over the script's, turn by turn, and its share of processor time."""
    taken: dict[str, list[float]] = {name: [] for name in rivals}  # s on the wall
    processor_s = dict.fromkeys(rivals, 0.0)
    largest = 0
    for turn in range(-1, turns):  # the first one warms both up
        part = files[max(turn, 0) :: turns]
        made = {}
        for name in sorted(rivals, reverse=bool(turn % 2)):
            start, start_s = time.perf_counter(), time.process_time()
            made[name] = rivals[name](part)
            if turn >= 0:
                taken[name].append(time.perf_counter() - start)
                processor_s[name] += time.process_time() - start_s
        largest = max(largest, _largest_difference(*made.values()))
    ours, theirs = taken["rayedit"], taken["script"]
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    print(
        f"{len(files)} pictures, rayedit / diffusers one by one: median "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f}), in all "
        f"{sum(theirs) / sum(ours):.2f}, of processor time "
        f"{processor_s['script'] / processor_s['rayedit']:.2f}; {len(files) / sum(ours):.2f} "
        f"against {len(files) / sum(theirs):.2f} images/s; no pixel differs by more than {largest}"
    )


def _largest_difference(left: list[bytes], right: list[bytes]) -> int:
    pairs = zip(map(_pixels, left), map(_pixels, right), strict=True)
    return max(int(np.abs(one - other).max()) for one, other in pairs)


def _pixels(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file))).astype(int)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=64, help="320: Stable Diffusion's own")
    parser.add_argument("--side", type=int, default=128, help="of the pictures, in px")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--batch", type=int, default=8, help="samples of rayedit that share a step")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as place:
        write_folder(Path(place), args.channels)
        config = EngineConfig(
            model=place, resolution=args.side, device="cpu", max_batch_size=args.batch
        )
        with EditActor(config) as actor:
            torch.set_num_threads(actor.config.threads)
            print_machine(actor.config.threads)
            rivals = {
                "rayedit": rayedit(actor, args.steps),
                "script": script(Path(place), args.steps),
            }
            contest(rivals, photographs(args.images, args.side), args.turns)


if __name__ == "__main__":
    main()
