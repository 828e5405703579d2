"""Train the AutoencoderKL of pocket: factor 4, 16 latent channels, 0.7 M parameters.

Loss: MSE + L1 + L1 of image gradients + a small KL, on random crops. Resumes from its checkpoint.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

from training.crops import Colours, CropSampler
from training.orthogonal import Muon
from training.photographs import held_out, load_photographs, square

KL_WEIGHT = 1e-7
LATENT_CHANNELS = 16
FINAL_LR = 0.02  # final learning rate as a share of the first one


def new_autoencoder() -> AutoencoderKL:
    """A fresh autoencoder: 16/32/64 channels, one layer a block, no attention."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=32,
        mid_block_add_attention=False,
    )


def started_from(folder: Path) -> AutoencoderKL:
    """A fresh autoencoder with every weight of `folder` whose shape fits."""
    model = new_autoencoder()
    weights = model.state_dict()
    for name, value in AutoencoderKL.from_pretrained(folder).float().state_dict().items():
        if weights[name].shape == value.shape:
            weights[name] = value
    model.load_state_dict(weights)
    return model


def starting_point(options: argparse.Namespace) -> AutoencoderKL:
    """The checkpoint in --output, else --init, else a fresh model."""
    if (options.output / "config.json").exists():
        return AutoencoderKL.from_pretrained(options.output)
    return started_from(options.init) if options.init else new_autoencoder()


def new_optimisers(model: AutoencoderKL, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the convolutions, AdamW for biases, norms and the layers that touch pixels."""
    outer = {"encoder.conv_in.weight", "decoder.conv_out.weight"}
    named = list(model.named_parameters())
    inner = [p for name, p in named if p.ndim > 1 and name not in outer]
    other = [p for name, p in named if p.ndim == 1 or name in outer]
    return [Muon(inner, lr), torch.optim.AdamW(other, lr=lr, weight_decay=0.0)]


def to_tensor(colours: Colours, device: torch.device) -> Tensor:
    """(N, H, W, 3) in 0..1 -> (N, 3, H, W) float32 in -1..1."""
    return torch.from_numpy(colours).to(device).permute(0, 3, 1, 2).contiguous() * 2 - 1


def slopes(images: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of neighbours, across and down."""
    return images[..., 1:] - images[..., :-1], images[..., 1:, :] - images[..., :-1, :]


def reconstruction_loss(model: AutoencoderKL, images: Tensor, sharp: float) -> Tensor:
    """Scalar loss of one batch (N, 3, H, W) in -1..1; `sharp` weighs the L1 and gradient terms."""
    posterior = model.encode(images).latent_dist
    latents = posterior.mean + 0.02 * torch.randn_like(posterior.mean)
    decoded = model.decode(latents).sample.float()
    across, down = slopes(decoded)
    true_across, true_down = slopes(images)
    gradient = functional.l1_loss(across, true_across) + functional.l1_loss(down, true_down)
    pixel = functional.l1_loss(decoded, images) + 0.5 * gradient
    square_error = functional.mse_loss(decoded, images)
    return 10 * square_error + sharp * pixel + KL_WEIGHT * posterior.kl().mean()


@torch.no_grad()
def psnr_held_out(model: AutoencoderKL, side_px: int = 256) -> dict[str, float]:
    """Name of each held-out photograph -> PSNR (dB) of its reconstruction at `side_px`."""
    device = next(model.parameters()).device
    values: dict[str, float] = {}
    for name, photograph in held_out().items():
        pixels = square(photograph, side_px)
        images = to_tensor(pixels[None].astype(np.float32) / 255.0, device)
        decoded = model.decode(model.encode(images).latent_dist.mean).sample
        shown = ((decoded.clamp(-1, 1) + 1) * 127.5).round()[0].permute(1, 2, 0).cpu().numpy()
        error = float(np.mean((shown - pixels.astype(np.float32)) ** 2))
        values[name] = 10 * float(np.log10(255.0**2 / error))
    return values


@torch.no_grad()
def set_scaling(model: AutoencoderKL, crops: CropSampler) -> None:
    """Set `scaling_factor` so that latents have unit standard deviation on 256 crops."""
    device = next(model.parameters()).device
    batches = [to_tensor(crops.batch(32, 96), device) for _ in range(8)]
    latents = torch.cat([model.encode(b).latent_dist.mean for b in batches])
    model.register_to_config(scaling_factor=float(1.0 / latents.std()))


def learning_rate(options: argparse.Namespace, step: int) -> float:
    """Cosine from --lr to 2% of it at --steps, after 50 steps of warm-up."""
    share = min(1.0, step / max(1, options.steps))
    cosine = 0.5 * (1 + np.cos(np.pi * share))
    return float(options.lr * min(1.0, (step + 1) / 50) * max(FINAL_LR, cosine))


def write_log(output: Path, model: AutoencoderKL, line: dict[str, float]) -> None:
    """Print a line with the held-out PSNR added, and append it to the log."""
    mean = float(np.mean(list(psnr_held_out(model).values())))
    line = {**line, "psnr_db": round(mean, 3)}
    with (output / "log.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")
    print(line, flush=True)


def train(options: argparse.Namespace) -> None:
    """Run until --steps; checkpoint, log and held-out PSNR every --every steps."""
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    model = starting_point(options).to(device, torch.float32).train()
    optimisers = new_optimisers(model, options.lr)
    state_file = options.output / "optimiser.pt"
    step = 0
    if state_file.exists():
        state = torch.load(state_file, map_location=device, weights_only=True)
        for optimiser, kept in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        step = int(state["step"])
    crops = CropSampler(load_photographs(options.photographs), seed=step)
    options.output.mkdir(parents=True, exist_ok=True)
    began, losses, jitter = time.monotonic(), [], not options.no_jitter
    while step < options.steps:
        for optimiser in optimisers:
            optimiser.param_groups[0]["lr"] = learning_rate(options, step)
            optimiser.zero_grad(set_to_none=True)
        images = to_tensor(crops.batch(options.batch, options.crop_px, jitter), device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = reconstruction_loss(model, images, options.sharp)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        losses.append(float(loss.detach()))
        step += 1
        if step % options.every == 0 or step == options.steps:
            set_scaling(model, crops)
            model.save_pretrained(options.output)
            states = [optimiser.state_dict() for optimiser in optimisers]
            torch.save({"optimisers": states, "step": step}, state_file)
            seconds = round(time.monotonic() - began, 1)
            line = {"step": step, "loss": float(np.mean(losses)), "seconds": seconds}
            write_log(options.output, model, line)
            losses = []


def main() -> None:
    """Command line: `python -m training.train_autoencoder --photographs DIR --output DIR`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="autoencoder folder to start from")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--crop-px", type=int, default=64)
    parser.add_argument("--sharp", type=float, default=1.0, help="weight of L1 and gradients")
    parser.add_argument("--no-jitter", action="store_true", help="leave the photographs' colours")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--every", type=int, default=250)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
