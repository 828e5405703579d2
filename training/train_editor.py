"""Train the UNet of pocket on generated triplets. Resumes from its last checkpoint.

The learning rate is flat until --decay-from and falls to 0 at --steps; both may be changed when a
run is resumed. A log line every 50 steps, a checkpoint and a grid of pictures every --every steps.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from training.conditioning import Conditioning, open_conditioning
from training.crops import CropSampler
from training.editor import (
    PURE_NOISE_SHARE,
    SIDE_PX,
    MovingAverage,
    encode,
    new_optimisers,
    new_scheduler,
    new_unet,
    started_from,
)
from training.editor import velocity_loss as loss_of
from training.learning_rate import falling_rate
from training.parallel import average_gradients, join, wait_for_all
from training.photographs import load_photographs
from training.picture_grid import save_grid
from training.triplets import Triplets, TripletSampler

LOG_EVERY = 50
WARM_UP_STEPS = 100
SIZES_PX = (64, 96, SIDE_PX)
BATCH_SIDE_PX = 96  # --batch pictures of this size; as many pixels at other sizes


class Trainer:
    """The state of a run: model, average, optimiser, step; and one step of training."""

    pure_noise_share = PURE_NOISE_SHARE

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.device = torch.device(options.device)
        self.vae = AutoencoderKL.from_pretrained(options.vae).float().to(self.device).eval()
        self.scheduler = new_scheduler()
        self.step = 0
        self.unet = self.first_unet().to(self.device).train()
        self.average = MovingAverage(self.unet, options.ema)
        self.optimisers = self.first_optimisers()
        self.resume()
        self.rank, self.processes = join()
        seed = self.step + 1_000_003 * self.rank
        torch.manual_seed(seed)
        self.conditioning: Conditioning = open_conditioning(options.text, seed)
        crops = CropSampler(load_photographs(options.photographs), seed=seed)
        weights = json.loads(options.weights.read_text()) if options.weights else {}
        self.triplets = TripletSampler(crops, seed, weights)
        self.sizes = np.random.default_rng(self.step)

    def first_unet(self) -> UNet2DConditionModel:
        """A fresh UNet, or one that starts from --init."""
        return started_from(self.options.init) if self.options.init else new_unet()

    def first_optimisers(self) -> list[torch.optim.Optimizer]:
        """Those of all weights."""
        return new_optimisers(self.unet, self.options.lr)

    def draw(self, count: int, size_px: int) -> Triplets:
        """What a step learns from."""
        return self.triplets.draw(count, size_px)

    def resume(self) -> None:
        """Go on from the checkpoint of --output, where there is one."""
        file = self.options.output / "checkpoint.pt"
        if not file.exists():
            return
        state = torch.load(file, map_location=self.device, weights_only=True)
        self.unet.load_state_dict(state["unet"])
        for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        self.average.weights = state["average"]
        self.average.count = int(state["average_count"])
        self.step = int(state["step"])

    def save(self) -> None:
        """Checkpoint, and what `write` makes of the averaged UNet."""
        folder = self.options.output
        state = {
            "unet": self.unet.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "average": self.average.weights,
            "average_count": self.average.count,
            "step": self.step,
        }
        torch.save(state, folder / "checkpoint.tmp")
        (folder / "checkpoint.tmp").rename(folder / "checkpoint.pt")
        self.average.swap(self.unet)
        self.unet.eval()
        self.write(folder, folder / f"grid-{self.step:06d}.png")
        self.unet.train()
        self.average.swap(self.unet)

    def write(self, folder: Path, grid: Path) -> None:
        """The UNet as a diffusers folder, and a grid of pictures."""
        self.unet.save_pretrained(folder / "unet")
        pictures = self.triplets.crops.photographs
        place = (grid, self.options.grid)
        save_grid(self.unet, self.vae, self.conditioning, pictures, place)

    def learning_rate(self) -> float:
        """See `falling_rate`."""
        return falling_rate(self.options, self.step, WARM_UP_STEPS)

    def train_step(self) -> float:
        """One optimiser step on one batch of one size; the loss."""
        for optimiser in self.optimisers:
            optimiser.param_groups[0]["lr"] = self.learning_rate()
            optimiser.zero_grad(set_to_none=True)
        size_px = int(self.sizes.choice(SIZES_PX, p=self.options.size_shares))
        area_px = self.options.batch * BATCH_SIDE_PX**2
        count = max(4, area_px // size_px**2 // 2 * 2)
        batch = self.draw(count, size_px)
        names = ["" if drop else n for n, drop in zip(batch.kinds, batch.drop_text, strict=True)]
        with torch.no_grad():
            sequences = self.conditioning(names).to(self.device)
        latents = encode(self.vae, batch, self.device)
        loss = loss_of(self.unet, self.scheduler, latents, sequences, self.pure_noise_share)
        loss.backward()
        average_gradients(list(self.unet.parameters()), self.processes)
        torch.nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self.average.update(self.unet)
        self.step += 1
        return float(loss.detach())

    def run(self) -> None:
        """Until --steps."""
        self.options.output.mkdir(parents=True, exist_ok=True)
        losses: list[float] = []
        began = time.monotonic()
        while self.step < self.options.steps:
            losses.append(self.train_step())
            if self.step % LOG_EVERY == 0 and self.rank == 0:
                line = {
                    "step": self.step,
                    "loss": round(float(np.mean(losses)), 5),
                    "lr": round(self.learning_rate(), 7),
                    "steps_per_s": round(len(losses) / (time.monotonic() - began), 3),
                }
                with (self.options.output / "log.jsonl").open("a") as log:
                    log.write(json.dumps(line) + "\n")
                losses, began = [], time.monotonic()
            if self.step % self.options.every == 0 or self.step == self.options.steps:
                if self.rank == 0:
                    self.save()
                wait_for_all(self.processes)
                began = time.monotonic()


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--vae", type=Path, required=True, help="autoencoder folder (frozen)")
    parser.add_argument("--text", default="codes", help="'codes' or a text encoder folder (frozen)")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="UNet folder to start from")
    parser.add_argument("--weights", type=Path, help="JSON: kind -> factor on its share")
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--decay-from", type=int, default=8000)
    parser.add_argument("--batch", type=int, default=16, help="pictures of 96 px a process")
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument("--ema", type=float, default=0.999)
    parser.add_argument("--size-shares", type=float, nargs=3, default=(0.4, 0.4, 0.2))
    parser.add_argument("--every", type=int, default=500)
    parser.add_argument("--grid", type=int, default=2, help="show every n-th kind in the grid")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def main() -> None:
    """Command line: `python -m training.train_editor --photographs DIR --vae DIR --output DIR`."""
    options = parse()
    torch.set_num_threads(options.threads)
    Trainer(options).run()


if __name__ == "__main__":
    main()
