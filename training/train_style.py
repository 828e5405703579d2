"""Train a style of pocket: a LoRA under which every edit comes out in one look (`looks`).

A target is that of `train_editor` in the look; without an instruction it is the source in the look,
so that guidance moves the edit and leaves the look alone. Everything else is `train_editor`'s:
resumes, checkpoints, a log line every 50 steps, a grid of pictures every --every steps.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from PIL import Image
from safetensors.torch import load_file

from training.editor import trained
from training.kinds import KINDS
from training.looks import LOOKS
from training.photographs import square
from training.picture_grid import edits_of
from training.train_editor import Trainer
from training.triplets import Triplets

RANK = 4
# Convolutions and attention, 0.43 MB in float16; the feed-forward layers would add half as much.
LAYERS = r".*(conv1|conv2|conv_in|conv_out|to_q|to_k|to_v|to_out\.0|proj_in|proj_out)"
SHOWN = ("night", "fog", "vivid", "pencil_sketch", "tint_green", "sunset", "brighter", "sky_pink")
SHOWN_SIDE_PX = 128


def in_look(batch: Triplets, look: str) -> Triplets:
    """The batch with its targets in a look; of a source without an instruction, the source."""
    whole = batch.drop_text & ~batch.drop_image
    targets = np.where(whole[:, None, None, None], batch.crops[batch.crop_of], batch.edited)
    return replace(batch, edited=np.stack([LOOKS[look](target) for target in targets]))


class StyleTrainer(Trainer):
    """The state of a run whose UNet is pocket's under a LoRA, which is all that trains."""

    pure_noise_share = 0.4  # the first step of an edit lays its colours down

    def first_unet(self) -> UNet2DConditionModel:
        """The UNet of --model with a fresh LoRA, which changes nothing yet, or with that of
        --init."""
        unet = UNet2DConditionModel.from_pretrained(self.options.model / "unet").float()
        unet.requires_grad_(False)
        unet.set_attn_processor(AttnProcessor())  # on a CPU its backward pass is 3 times as fast
        unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=LAYERS))
        if self.options.init is not None:
            halves = load_file(self.options.init)
            named = {name.removeprefix("unet."): half.float() for name, half in halves.items()}
            set_peft_model_state_dict(unet, named)
        return unet

    def first_optimisers(self) -> list[torch.optim.Optimizer]:
        """AdamW: the halves of a low-rank weight are no matrices to make orthogonal."""
        return [torch.optim.AdamW(trained(self.unet), lr=self.options.lr, weight_decay=0.0)]

    def draw(self, count: int, size_px: int) -> Triplets:
        """The editor's triplets in the look."""
        return in_look(super().draw(count, size_px), self.options.look)

    def write(self, folder: Path, grid: Path) -> None:
        """The LoRA in diffusers' layout and float16, and a grid of pictures: a column a kind, the
        source over its true edit in the look over ours."""
        weights = get_peft_model_state_dict(self.unet)
        StableDiffusionInstructPix2PixPipeline.save_lora_weights(
            folder,
            unet_lora_layers={name: half.half().contiguous() for name, half in weights.items()},
            weight_name=f"{self.options.look}.safetensors",
        )
        photographs = self.triplets.crops.photographs
        stride = max(1, len(photographs) // len(SHOWN))
        chosen = [photographs[i * stride % len(photographs)] for i in range(len(SHOWN))]
        sources = np.stack([square(photograph, SHOWN_SIDE_PX) for photograph in chosen])
        ours = edits_of(self.unet, self.vae, self.conditioning, sources, list(SHOWN))
        true = [
            LOOKS[self.options.look](KINDS[name].apply(source.astype(np.float32) / 255)) * 255
            for name, source in zip(SHOWN, sources, strict=True)
        ]
        lines = [np.concatenate([*row], axis=1) for row in (sources, true, ours)]
        Image.fromarray(np.concatenate(lines).astype(np.uint8)).save(grid)


def parse() -> argparse.Namespace:
    """The command line; what it does not have is as the editor's run needs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--look", choices=LOOKS, required=True)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="pocket's folder (frozen)")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="LoRA of the same shape to start from")
    parser.add_argument("--text", default="codes", help="'codes' or a text encoder folder (frozen)")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--decay-from", type=int, default=500)
    parser.add_argument("--batch", type=int, default=8, help="pictures of 96 px a process")
    parser.add_argument("--lr", type=float, default=2.5e-3)
    parser.add_argument("--ema", type=float, default=0.99)
    parser.add_argument("--size-shares", type=float, nargs=3, default=(0.6, 0.3, 0.1))
    parser.add_argument("--every", type=int, default=250)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    return argparse.Namespace(**vars(options), vae=options.model / "vae", weights=None)


def main() -> None:
    """Command line: `python -m training.train_style --look film --photographs DIR ...`."""
    options = parse()
    torch.set_num_threads(options.threads)
    StyleTrainer(options).run()


if __name__ == "__main__":
    main()
