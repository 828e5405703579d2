"""A run of training in one worker: what it has learned so far, and one step after the other."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from engine.errors import ManifestInvalid
from engine.weights import verify_weights
from training.crops import Colours
from training.pix2pix.batches import Batches, Texts, loss_of
from training.pix2pix.checkpoints import Checkpoints
from training.pix2pix.latents import Latents, write_whole
from training.pix2pix.log import Log
from training.pix2pix.model import Learner, Parts, write_lora, write_model
from training.pix2pix.order import Order, parts_of
from training.pix2pix.preview import save_preview
from training.pix2pix.settings import batch_of, settings_of
from training.pix2pix.triplet_files import TripletFiles
from training.train_autoencoder import to_tensor

DTYPES = {"no": None, "fp16": torch.float16, "bf16": torch.bfloat16}
LEFT_OUT = "left_out.log"


class Run:
    """Trains, with as many workers as there are: each computes its share of every step."""

    def __init__(
        self, options: argparse.Namespace, triplets: TripletFiles, worker: int = 0, workers: int = 1
    ) -> None:
        self.options, self.triplets = options, triplets
        self.worker, self.workers = worker, workers
        self.folder: Path = options.output_dir
        self.device = torch.device(options.device)
        self._dtype = DTYPES[options.mixed_precision]
        torch.manual_seed(options.seed)  # of a LoRA's first weights
        self.parts = Parts.load(Path(options.folder), self.device)
        self.learner = Learner(self.parts, options).train()
        self.learning = self.learner.learning
        self.texts = Texts(self.parts, bool(options.train_text_encoder_layers))
        self.noising = self.parts.noising
        self.latents = self._filled_latents()
        self.order = Order(self.latents.usable(), batch_of(options), options.seed)
        if not len(self.order.usable):
            raise ManifestInvalid(f"no triplet can be read: {self.latents.faults()[:200]}")
        instructions = [triplet.instruction for triplet in triplets.triplets]
        self.batches = Batches(self.order, self.latents, instructions, options)
        self.steps = options.max_train_steps or options.num_train_epochs * self.order.steps_an_epoch
        self._prepare_learning()
        self.log = Log(self.folder)
        self.checkpoints = Checkpoints(self.folder, options.checkpoints_total_limit)
        self.step = 0
        self.losses: list[float] = []  # since the last line of the log
        self._resume()
        shares = workers > 1
        self._model: nn.Module = DistributedDataParallel(self.learner) if shares else self.learner

    def _prepare_learning(self) -> None:
        options, weights = self.options, list(self.learning.values())
        self.optimiser = torch.optim.AdamW(weights, lr=options.learning_rate)
        self.average = EMAModel(weights, foreach=True) if options.use_ema else None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self._dtype is torch.float16)
        self.schedule = get_scheduler(
            options.lr_scheduler,
            self.optimiser,
            num_warmup_steps=options.lr_warmup_steps,
            num_training_steps=self.steps,
        )

    def _filled_latents(self) -> Latents:
        """Compute this worker's share of what is not there, and wait for the others'."""
        vae = verify_weights(Path(self.options.folder) / "vae")[:8]
        name = f"latents-{self.triplets.digest}-{vae}-{self.options.resolution}"
        latents = Latents(self.folder / name, len(self.triplets))
        share = (self.worker, self.workers)
        latents.fill(self.triplets, self.options.resolution, self._encode, share)
        self._wait()
        if self.worker == 0 and (faults := latents.faults()):
            write_whole(self.folder / LEFT_OUT, faults.encode())
        return latents

    def _wait(self) -> None:
        if self.workers > 1:
            distributed.barrier()

    @torch.no_grad()
    def _encode(self, pictures: Colours) -> Tensor:
        with self._lower_precision():
            return self.parts.vae.encode(to_tensor(pictures, self.device)).latent_dist.mode()

    def _lower_precision(self) -> AbstractContextManager[Any]:
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, self._dtype)

    def run(self) -> None:
        """Learn until the last step, and write the model."""
        options, began, before = self.options, time.monotonic(), self.step
        grids = options.validation_steps or options.checkpointing_steps
        while self.step < self.steps:
            self.losses.append(self.train_step())
            is_last = self.step == self.steps
            if is_last or self.step % options.logging_steps == 0:
                self._tell((self.step - before) / (time.monotonic() - began))
                began, before = time.monotonic(), self.step
            if self.worker == 0 and (is_last or self.step % options.checkpointing_steps == 0):
                self.checkpoints.save(self.step, self._state())
            if self.worker == 0 and (is_last or self.step % grids == 0):
                self._with_average(self._show)
        if self.worker == 0:
            self._with_average(self._write)
        self._wait()

    def train_step(self) -> float:
        """Take one step of the optimiser; the mean loss of its triplets, of all workers."""
        step = self.order.at(self.step)
        own = self.options.train_batch_size
        shares = list(parts_of(step, own, self.worker, self.workers))
        total = torch.zeros((), device=self.device)
        for number, part in enumerate(shares, 1):
            batch = self.batches.make(part, step.epoch, self.parts)
            gather = number == len(shares)  # the workers' gradients are averaged after the last
            with nullcontext() if gather else getattr(self._model, "no_sync", nullcontext)():
                with self._lower_precision():
                    loss = loss_of(self._model, batch, self.texts(batch.texts), self.noising)
                mean = loss / len(step.indices)
                self.scaler.scale(mean * self.workers).backward()
            total += mean.detach()
        self._learn()
        if self.workers > 1:
            distributed.all_reduce(total)
        self.step += 1
        return float(total)

    def _learn(self) -> None:
        """Move the weights by their gradients."""
        self.scaler.unscale_(self.optimiser)
        nn.utils.clip_grad_norm_(self.learning.values(), self.options.max_grad_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.schedule.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.step(self.learning.values())

    def _tell(self, steps_per_s: float) -> None:
        """Write a line: the mean loss since the last one."""
        line = {
            "step": self.step,
            "epoch": round(self.step / self.order.steps_an_epoch, 3),
            "loss": round(float(np.mean(self.losses)), 6),
            "lr": self.schedule.get_last_lr()[0],
            "steps_per_s": round(steps_per_s, 3),
        }
        self.losses = []
        if self.worker == 0:
            self.log.write(line)

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "losses": self.losses,
            "settings": settings_of(self.options, self.triplets.digest),
            "weights": {name: weight.detach() for name, weight in self.learning.items()},
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average else None,
        }

    def _resume(self) -> None:
        """Go on from the newest checkpoint, where there is one; the log then ends at it."""
        state = self.checkpoints.load(self.device)
        if state is not None:
            with torch.no_grad():
                for name, weight in self.learning.items():
                    weight.copy_(state["weights"][name])
            self.optimiser.load_state_dict(state["optimiser"])
            self.schedule.load_state_dict(state["schedule"])
            self._schedule_anew()
            self.scaler.load_state_dict(state["scaler"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.step, self.losses = state["step"], state["losses"]
        if self.worker == 0:
            self.log.cut(self.step)

    def _schedule_anew(self) -> None:
        """Take the learning rate of the options: it may be another one than before."""
        rate, schedule = self.options.learning_rate, self.schedule
        schedule.base_lrs = [rate] * len(schedule.base_lrs)
        for group, share in zip(self.optimiser.param_groups, schedule.lr_lambdas, strict=True):
            group["initial_lr"], group["lr"] = rate, rate * share(schedule.last_epoch)

    def _with_average(self, write: Callable[[], None]) -> None:
        """Call `write` while the weights are their moving average, if there is one."""
        weights = list(self.learning.values())
        if self.average is not None:
            self.average.store(weights)
            self.average.copy_to(weights)
        self.learner.eval()
        write()
        self.learner.train()
        if self.average is not None:
            self.average.restore(weights)

    def _show(self) -> None:
        if self.options.num_validation_images:
            file = self.folder / f"grid-{self.step:06d}.png"
            save_preview(self.parts, self.triplets, self.order.usable, self.options, file)

    def _write(self) -> None:
        if self.options.rank:
            write_lora(self.parts.unet, self.folder)
        else:
            write_model(self.parts, self.options.resolution, self.folder)
