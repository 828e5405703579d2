"""Batches: latents, noise, levels and texts of triplets, drawn from the dice of each of them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler
from torch import Tensor
from torch.nn import functional

from engine.tensor_cache import TensorCache
from training.pix2pix.latents import Latents
from training.pix2pix.model import Learner, Parts
from training.pix2pix.order import Order, Part

TEXT_BYTES = 256 << 20  # of kept states: 4,500 texts of pocket's encoder, 1,100 of CLIP-L


@dataclass(frozen=True, slots=True)
class Batch:
    """What a part of a step computes: N triplets."""

    sources: Tensor  # (N, C, h, w), zeros where the source is dropped
    edited: Tensor  # (N, C, h, w), scaled
    noise: Tensor  # (N, C, h, w)
    levels: Tensor  # (N,)
    texts: list[str]  # N, empty where the instruction is dropped
    weights: Tensor  # (N,)


class Batches:
    """Makes them out of the latents of a run."""

    def __init__(
        self, order: Order, latents: Latents, instructions: list[str], options: argparse.Namespace
    ) -> None:
        self._order, self._latents, self._instructions = order, latents, instructions
        self._dropped = options.conditioning_dropout_prob
        self._last = options.last_timestep_share

    def make(self, part: Part, epoch: int, parts: Parts) -> Batch:
        """Draw a batch; the same for the same triplets of the same epoch, wherever it is drawn.

        A chance under 2 p drops the instruction, one from p to 3 p the source, as the reference.
        """
        sources, edited = self._latents.of(part.indices).unbind(1)
        scaled = edited * parts.vae.config.scaling_factor
        device, most = parts.unet.device, parts.scheduler.config.num_train_timesteps
        noise, levels, texts, keeps = [], [], [], []
        for index in part.indices:
            dice = self._order.dice(epoch, int(index))
            chance, last = torch.rand(2, generator=dice).tolist()
            level = int(torch.randint(most, (1,), generator=dice))
            noise.append(torch.randn(scaled.shape[1:], generator=dice))
            levels.append(most - 1 if last < self._last else level)
            texts.append("" if chance < 2 * self._dropped else self._instructions[int(index)])
            keeps.append(not self._dropped <= chance < 3 * self._dropped)
        return Batch(
            (sources * torch.tensor(keeps)[:, None, None, None]).to(device),
            scaled.to(device),
            torch.stack(noise).to(device),
            torch.tensor(levels, device=device),
            texts,
            torch.from_numpy(part.weights).to(device),
        )


class Texts:
    """What the learner is told: tokens where its text encoder learns, else states that are kept."""

    def __init__(self, parts: Parts, learns: bool) -> None:
        self._parts, self._learns = parts, learns
        self._kept = TensorCache(TEXT_BYTES)

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> Tensor:
        """(N, T) tokens or (N, T, D) states."""
        if self._learns:
            return self._parts.tokens(texts)
        return torch.stack([self._kept.made_once(text, lambda: self._read(text)) for text in texts])  # noqa: B023

    def _read(self, text: str) -> Tensor:
        return self._parts.text_encoder(self._parts.tokens([text])).last_hidden_state[0]


def loss_of(learner: Learner, batch: Batch, text: Tensor, noising: DDPMScheduler) -> Tensor:
    """The sum over a batch, by its weights, of the mean squared error of what a UNet predicts."""
    noisy = noising.add_noise(batch.edited, batch.noise, batch.levels)
    target = batch.noise
    if noising.config.prediction_type == "v_prediction":
        target = noising.get_velocity(batch.edited, batch.noise, batch.levels)
    guess = learner(torch.cat([noisy, batch.sources], dim=1), batch.levels, text)
    each = functional.mse_loss(guess.float(), target, reduction="none").mean(dim=(1, 2, 3))
    return (each * batch.weights).sum()
