"""What pocket itself makes of training photographs, with good scales and bad, for the judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from training.answers import NAMES, TrueEdits
from training.conditioning import CODE_NOISE, IdealCodes
from training.crops import Colours, CropSampler
from training.editor import edit_latents
from training.kinds import KINDS
from training.pairs import Pairs, planes
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
        truths = [TrueEdits(crop) for crop in crops]
        shown = [
            [n for n, is_shown in zip(NAMES, truth.shown, strict=True) if is_shown] or [NAMES[0]]
            for truth in truths
        ]
        drawn = [str(self.random.choice(names)) for names in shown]
        true = np.stack([KINDS[name].apply(crop) for name, crop in zip(drawn, crops, strict=True)])
        edited = [self.pocket.reconstruct(crops), self.pocket.reconstruct(true)]
        for setting in (*QUICK, SLOW[self.random.integers(len(SLOW))]):
            asked = [self.pick(names) for names in shown]
            edited.append(self.pocket.edit(crops, asked, setting))
        results = np.stack(edited)  # (6, 8, H, W, 3)
        levels = results.astype(np.float32) / np.float32(255)
        answers = torch.stack([t.answers(levels[:, i]) for i, t in enumerate(truths)], dim=1)
        sources = np.concatenate([crops] * len(edited))
        return Pairs(planes(sources), planes(np.concatenate(edited)), answers.flatten(0, 1))
