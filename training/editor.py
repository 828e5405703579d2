"""The UNet of pocket, its noise schedule, its loss and its moving average."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from torch.nn import functional

from training.codes import WIDTH
from training.orthogonal import Muon
from training.train_autoencoder import LATENT_CHANNELS, to_tensor
from training.triplets import Triplets

SIDE_PX = 128  # the largest that it is trained at: what its folder says is its own
PX_OF_A_LATENT = 4  # a side, of the autoencoder
TRAIN_STEPS = 1000
PURE_NOISE_SHARE = 0.15  # of the training steps at t = 999, where every edit starts


def new_unet() -> UNet2DConditionModel:
    """64/96/160 channels, one layer a block, cross-attention on the two lower levels: 7.6 M."""
    unet = UNet2DConditionModel(
        sample_size=SIDE_PX // PX_OF_A_LATENT,
        in_channels=2 * LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 96, 160),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    unet.set_attn_processor(AttnProcessor())  # on a CPU its backward pass is 3 times as fast
    return unet


def started_from(folder: Path) -> UNet2DConditionModel:
    """A fresh UNet with every weight of `folder` whose shape fits."""
    unet = new_unet()
    weights = unet.state_dict()
    for name, value in UNet2DConditionModel.from_pretrained(folder).float().state_dict().items():
        if name in weights and weights[name].shape == value.shape:
            weights[name] = value
    unet.load_state_dict(weights)
    return unet


def new_scheduler() -> DDIMScheduler:
    """v-prediction, zero terminal SNR, trailing timesteps: edits may change overall brightness."""
    return DDIMScheduler(
        num_train_timesteps=TRAIN_STEPS,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=0,
    )


@torch.no_grad()
def encode(vae: AutoencoderKL, batch: Triplets, device: torch.device) -> tuple[Tensor, Tensor]:
    """(source latents as the pipeline gives them to the UNet, scaled latents of the edits)."""
    images = torch.cat([to_tensor(batch.crops, device), to_tensor(batch.edited, device)])
    with torch.autocast(device.type, dtype=torch.bfloat16):
        latents = vae.encode(images).latent_dist.mean.float()
    crops, edited = latents.split([len(batch.crops), len(batch.edited)])
    sources = crops[torch.from_numpy(batch.crop_of).to(device)]
    sources = sources * ~torch.from_numpy(batch.drop_image).to(device)[:, None, None, None]
    return sources, edited * vae.config.scaling_factor


def velocity_loss(
    unet: UNet2DConditionModel,
    scheduler: DDIMScheduler,
    latents: tuple[Tensor, Tensor],
    sequences: Tensor,
    pure_noise_share: float = PURE_NOISE_SHARE,
) -> Tensor:
    """Mean squared error of v.

    latents: (sources, edited), each (N, C, h, w); sequences: (N, 77, 192).
    """
    sources, edited = latents
    device = edited.device
    noise = torch.randn_like(edited)
    steps = torch.randint(0, TRAIN_STEPS, (len(edited),), device=device)
    pure = torch.rand(len(edited), device=device) < pure_noise_share
    steps = torch.where(pure, TRAIN_STEPS - 1, steps)
    noisy = scheduler.add_noise(edited, noise, steps)
    target = scheduler.get_velocity(edited, noise, steps)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        guess = unet(torch.cat([noisy, sources], dim=1), steps, sequences).sample
    return functional.mse_loss(guess.float(), target)


def new_optimisers(unet: UNet2DConditionModel, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the inner weights; AdamW for biases, norms, time embedding, first and last layer."""
    outer = ("conv_in", "conv_out", "time_embedding", "time_emb_proj")
    named = list(unet.named_parameters())
    inner = [p for name, p in named if p.ndim > 1 and not any(part in name for part in outer)]
    other = [p for name, p in named if p.ndim == 1 or any(part in name for part in outer)]
    return [Muon(inner, lr), torch.optim.AdamW(other, lr=lr, weight_decay=0.0, betas=(0.9, 0.99))]


def trained(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The weights that training moves."""
    return [weight for weight in model.parameters() if weight.requires_grad]


class MovingAverage:
    """Exponential moving average of what is trained; warms up as (1 + n) / (10 + n)."""

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        self.decay = decay
        self.count = 0
        self.weights = [p.detach().clone() for p in trained(model)]

    @torch.no_grad()
    def update(self, model: torch.nn.Module) -> None:
        """One step towards the model's present weights."""
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        torch._foreach_lerp_(self.weights, [p.detach() for p in trained(model)], 1 - decay)

    @torch.no_grad()
    def swap(self, model: torch.nn.Module) -> None:
        """Exchange the average with the model's weights; call twice to undo."""
        for mine, theirs in zip(self.weights, trained(model), strict=True):
            kept = theirs.detach().clone()
            theirs.copy_(mine)
            mine.copy_(kept)


@torch.no_grad()
def edit_latents(
    unet: UNet2DConditionModel,
    sources: Tensor,
    sequences: Tensor,
    nothing: Tensor,
    steps: int = 20,
    scales: tuple[float, float] = (5.0, 1.3),
) -> Tensor:
    """Sample scaled latents with the three-branch guidance of InstructPix2Pix.

    sources (N, C, h, w), sequences (N, 77, 192), nothing (1, 77, 192); scales = (text, image).
    """
    scheduler = new_scheduler()
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(sources.shape, generator=generator).to(sources.device)
    texts, images = sequences, sources
    guided = scales != (1.0, 1.0)  # else the other two branches cancel out
    if guided:
        empty = nothing.expand_as(sequences)
        texts = torch.cat([sequences, empty, empty])
        images = torch.cat([sources, sources, torch.zeros_like(sources)])
    for step in scheduler.timesteps:
        rows = torch.cat([latents.repeat(3 if guided else 1, 1, 1, 1), images], dim=1)
        with torch.autocast(sources.device.type, dtype=torch.bfloat16):
            guess = unet(rows, step, texts).sample.float()
        if guided:
            full, image, none = guess.chunk(3)
            guess = none + scales[0] * (full - image) + scales[1] * (image - none)
        latents = scheduler.step(guess, step, latents).prev_sample
    return latents
