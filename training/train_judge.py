"""Train pocket's judge on generated pairs, on a CPU or a GPU. Resumes from its last checkpoint.

First --drawn pairs are made by arithmetic and --made by pocket; they stay in --output. The learning
rate is flat until --decay-from and falls to 0 at --steps; all four may be changed when a run is
resumed. A log line every 50 steps; a checkpoint, and the share of true edits of held-out pictures
that it knows, every --every steps.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional

from engine.quality.judge import WEIGHTS, JudgeNetwork, PocketJudge
from training.answers import NAMES, NONE
from training.crops import CropSampler
from training.exam import Exam
from training.kept import SIDE_PX, Kept, keep
from training.learning_rate import falling_rate
from training.made import PER_MADE, Maker, Pocket
from training.orthogonal import Muon
from training.pairs import PairSampler, spoilt
from training.photographs import load_photographs

CHANNELS = (24, 48, 96, 128)
PER_DRAWN = 256  # pairs of a part
LOG_EVERY = 50
WARM_UP_STEPS = 50
MADE_SHARE = 0.4  # of a batch


def save_judge(network: JudgeNetwork, folder: Path, channels: Sequence[int] = CHANNELS) -> None:
    """Write `config.json`, and the weights: matrices in float16, what is small as it is."""
    config = {"kinds": NAMES, "channels": channels, "side_px": SIDE_PX}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    weights = {
        name: (weight.half() if weight.ndim > 1 else weight).contiguous()
        for name, weight in network.state_dict().items()
    }
    save_file(weights, folder / WEIGHTS)


def new_optimisers(network: JudgeNetwork, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the inner weights; AdamW for norms, biases, first and last layer."""
    outer = ("stages.0.0.", "answer.")
    named = list(network.named_parameters())
    inner = [p for name, p in named if p.ndim > 1 and not name.startswith(outer)]
    other = [p for name, p in named if p.ndim == 1 or name.startswith(outer)]
    return [Muon(inner, lr), torch.optim.AdamW(other, lr=lr, weight_decay=0.0)]


def keep_pairs(options: argparse.Namespace) -> None:
    """Draw what is missing in --output of --drawn and --made pairs."""
    options.output.mkdir(parents=True, exist_ok=True)
    parts = {"made": -(-options.made // PER_MADE), "drawn": -(-options.drawn // PER_DRAWN)}
    there = {name: len([*options.output.glob(f"{name}-*.safetensors")]) for name in parts}
    if all(there[name] >= count for name, count in parts.items()):
        return
    seed = sum(there.values())  # other pairs than those that are there
    crops = CropSampler(load_photographs(options.photographs), seed)
    pairs = PairSampler(crops, seed)
    keep(options.output, "drawn", parts["drawn"], lambda: pairs.draw(PER_DRAWN))
    pocket = Pocket(options.vae, options.unet, torch.device(options.device), seed)
    keep(options.output, "made", parts["made"], Maker(crops, pocket, seed).draw)


class JudgeTrainer:
    """The state of a run: network, optimisers, step; and one step of training."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.device = torch.device(options.device)
        self.step = 0
        self.network = JudgeNetwork(CHANNELS, NONE + 1)
        self.network.to(self.device, memory_format=torch.channels_last).train()
        self.judge = PocketJudge(self.network, NAMES, SIDE_PX)
        self.optimisers = new_optimisers(self.network, options.lr)
        self.resume()
        torch.manual_seed(self.step)
        keep_pairs(options)
        self.made, self.drawn = (Kept(options.output, n, self.step) for n in ("made", "drawn"))
        self.random = np.random.default_rng(self.step)

    def resume(self) -> None:
        """Go on from the checkpoint of --output, where there is one."""
        file = self.options.output / "checkpoint.pt"
        if not file.exists():
            return
        state = torch.load(file, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        self.step = int(state["step"])

    def save(self) -> dict[str, float]:
        """Checkpoint and weights; the shares of the exam that these know."""
        folder = self.options.output
        state = {
            "network": self.network.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step,
        }
        torch.save(state, folder / "checkpoint.tmp")
        (folder / "checkpoint.tmp").rename(folder / "checkpoint.pt")
        save_judge(self.network, folder)
        self.network.eval()
        right = Exam.of_held_out().right(self.judge)
        self.network.train()
        return {name: round(float(np.mean(known)), 4) for name, known in right.items()}

    def learning_rate(self) -> float:
        """See `falling_rate`."""
        return falling_rate(self.options, self.step, WARM_UP_STEPS)

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(planes, answers) of a batch: arithmetic's pairs, spoilt or not, and pocket's."""
        made = round(MADE_SHARE * self.options.batch)
        drawn, ours = self.drawn.draw(self.options.batch - made), self.made.draw(made)
        edited = torch.cat([spoilt(drawn.edited, self.random), ours.edited])
        planes = self.judge.planes(torch.cat([drawn.sources, ours.sources]), edited)
        answers = torch.cat([drawn.answers, ours.answers]).to(self.device)
        return planes.contiguous(memory_format=torch.channels_last), answers

    def train_step(self) -> float:
        """One optimiser step on one batch; the loss."""
        for optimiser in self.optimisers:
            optimiser.param_groups[0]["lr"] = self.learning_rate()
            optimiser.zero_grad(set_to_none=True)
        planes, answers = self.draw()
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            logits = self.network(planes)
        loss = functional.binary_cross_entropy_with_logits(logits.float(), answers)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self.step += 1
        return float(loss.detach())

    def log(self, line: dict[str, object]) -> None:
        """A line of --output/log.jsonl, printed too."""
        with (self.options.output / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def run(self) -> None:
        """Until --steps."""
        losses: list[float] = []
        began = time.monotonic()
        while self.step < self.options.steps:
            losses.append(self.train_step())
            if self.step % LOG_EVERY == 0:
                took_s = time.monotonic() - began
                loss = round(float(np.mean(losses)), 4)
                rate = round(len(losses) / took_s, 3)
                self.log({"step": self.step, "loss": loss, "steps_per_s": rate})
                losses, began = [], time.monotonic()
            if self.step % self.options.every == 0 or self.step == self.options.steps:
                self.log({"step": self.step, **self.save()})
                began = time.monotonic()


def main() -> None:
    """Command line: `python -m training.train_judge --photographs DIR --output DIR`."""
    pocket = Path("engine/models/pocket")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--vae", type=Path, default=pocket / "vae")
    parser.add_argument("--unet", type=Path, default=pocket / "unet")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--drawn", type=int, default=15360, help="pairs made by arithmetic")
    parser.add_argument("--made", type=int, default=9600, help="pairs made by pocket")
    parser.add_argument("--steps", type=int, default=7000)
    parser.add_argument("--decay-from", type=int, default=3500)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--every", type=int, default=250)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    JudgeTrainer(options).run()


if __name__ == "__main__":
    main()
