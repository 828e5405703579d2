"""What pocket itself makes of training photographs, with good scales and bad ones, for the judge.

A picture counts for its kind as far as it is nearer to the true edit than to every other one that
can be told from it (`measures`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from training.conditioning import CODE_NOISE, IdealCodes
from training.crops import Colours, CropSampler
from training.editor import edit_latents
from training.measures import SOURCE, psnr, rivals, shows, true_edits
from training.pairs import NAMES, Answer, Pairs, planes, rows_of
from training.photographs import Pixels
from training.picture_grid import shown
from training.train_autoencoder import to_tensor

SIDE_PX = 96
CROPS = 8  # edited together
# Scales of text and image, steps, noise on the codes. Those of one branch cost a third.
QUICK = (
    ((1.0, 1.0), 8, CODE_NOISE),
    ((1.0, 1.0), 3, CODE_NOISE),
    ((1.0, 1.0), 2, 5 * CODE_NOISE),
)
SLOW = (  # each batch has one of them
    ((3.0, 1.3), 8, CODE_NOISE),
    ((8.0, 1.0), 4, CODE_NOISE),
    ((0.5, 2.5), 4, CODE_NOISE),
    ((3.0, 1.3), 4, 5 * CODE_NOISE),
)
PER_MADE = CROPS * (len(QUICK) + 3)  # and a true edit and the source, through the autoencoder
HARD_SHARE = 0.4
HARD = (  # the kinds that pocket gets wrong most
    *("poster", "pencil_sketch", "vivid", "vivid+frame_black", "keep_red"),
    *("contrast", "brighter", "sunset", "sepia+frame_white", "neon"),
)
CLEARLY_DB = 1.5  # nearer than to any other true edit by so much: it is that kind and no other


def answer_of(result: Colours, kind: str, truths: dict[str, Colours]) -> Answer:
    """How far a result is the edit that was meant, and how far another one; the rest is none."""
    others = rivals(kind, truths)
    near_db = {name: psnr(result, truths[name]) for name in (kind, *others)}
    other = max(others, key=near_db.__getitem__)
    lead_db = near_db[kind] - near_db[other]
    share = float(np.clip(lead_db / (2 * CLEARLY_DB) + 0.5, 0, 1))
    answer = {NAMES.index(kind): share}
    if other != SOURCE:
        answer[NAMES.index(other)] = 1 - share
    return answer


class Pocket:
    """The autoencoder and the UNet, frozen."""

    def __init__(self, vae: Path, unet: Path, device: torch.device, seed: int) -> None:
        self.vae = AutoencoderKL.from_pretrained(vae).float().to(device).eval()
        self.unet = UNet2DConditionModel.from_pretrained(unet).float().to(device).eval()
        self.codes = IdealCodes(seed)
        self.device = device

    @torch.no_grad()
    def reconstruct(self, pictures: Colours) -> Pixels:
        """(N, H, W, 3) through the autoencoder alone."""
        latents = self.vae.encode(to_tensor(pictures, self.device)).latent_dist.mode()
        return shown(self.vae.decode(latents).sample)

    @torch.no_grad()
    def edit(
        self, pictures: Colours, kinds: list[str], setting: tuple[tuple[float, float], int, float]
    ) -> Pixels:
        """(N, H, W, 3), each edited as its kind says."""
        scales, steps, noise = setting
        self.codes.noise = noise
        texts, nothing = self.codes(kinds).to(self.device), self.codes([""]).to(self.device)
        sources = self.vae.encode(to_tensor(pictures, self.device)).latent_dist.mode()
        latents = edit_latents(self.unet, sources, texts, nothing, steps, scales)
        return shown(self.vae.decode(latents / self.vae.config.scaling_factor).sample)


class Maker:
    """Draws crops, and has pocket edit them."""

    def __init__(self, crops: CropSampler, pocket: Pocket, seed: int) -> None:
        self.crops = crops
        self.pocket = pocket
        self.random = np.random.default_rng(seed)

    def pick(self, names: list[str]) -> str:
        """One of several kinds, often a hard one."""
        hard = [name for name in names if name in HARD]
        chosen = hard if hard and self.random.random() < HARD_SHARE else names
        return str(self.random.choice(chosen))

    def draw(self) -> Pairs:
        """48 pairs: of each crop itself, a true edit, both through the autoencoder, and results."""
        crops = self.crops.batch(CROPS, SIDE_PX)
        truths = [true_edits(crop) for crop in crops]
        shown = [[n for n in NAMES if shows(n, truth)] or [NAMES[0]] for truth in truths]
        drawn = [str(self.random.choice(names)) for names in shown]
        true = np.stack([truth[name] for name, truth in zip(drawn, truths, strict=True)])
        edited = [self.pocket.reconstruct(crops), self.pocket.reconstruct(true)]
        answers = [Answer() for _ in crops] + [{NAMES.index(name): 1.0} for name in drawn]
        for setting in (*QUICK, SLOW[self.random.integers(len(SLOW))]):
            asked = [self.pick(names) for names in shown]
            made = self.pocket.edit(crops, asked, setting)
            edited.append(made)
            for result, kind, truth in zip(made, asked, truths, strict=True):
                answers.append(answer_of(result.astype(np.float32) / 255, kind, truth))
        sources = np.concatenate([crops] * len(edited))
        return Pairs(planes(sources), planes(np.concatenate(edited)), rows_of(answers))
