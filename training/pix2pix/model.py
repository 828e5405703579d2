"""The model that is trained: parts of a diffusers folder, what of them learns, and back."""

from __future__ import annotations

import argparse
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import diffusers
import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    StableDiffusionInstructPix2PixPipeline,
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import AttnProcessor
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from engine.errors import ModelError
from engine.hub import fetch_weights
from engine.models.parts import downsampling
from engine.registry import find_model, read_json
from training.export import clean_configs

PIPELINES = ("StableDiffusionInstructPix2PixPipeline", "StableDiffusionPipeline")


def folder_of(name: str) -> Path:
    """Find the folder of a model: a diffusers folder, a registered name, or hub_id@revision.

    Raises `ModelError` for one that is neither InstructPix2Pix nor Stable Diffusion 1.x.
    """
    folder = Path(name)
    if not folder.is_dir():
        spec = find_model(name)
        folder = Path(spec.source)
        if not folder.is_dir():
            folder = fetch_weights(spec.source, spec.revision, spec.hub)
    pipeline = read_json(folder / "model_index.json").get("_class_name")
    if pipeline not in PIPELINES:
        raise ModelError(f"{name} is a {pipeline}; what can be trained is {' or '.join(PIPELINES)}")
    return folder.resolve()


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a folder, in float32."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    scheduler: Any  # the folder's own

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> Self:
        """Read them; a UNet that paints from a text alone is widened for a source."""
        kind = getattr(diffusers, read_json(folder / "model_index.json")["scheduler"][1])
        dtype = {"dtype": torch.float32, "use_safetensors": True}
        parts = cls(
            CLIPTokenizer.from_pretrained(folder / "tokenizer"),
            CLIPTextModel.from_pretrained(folder / "text_encoder", **dtype).to(device),
            AutoencoderKL.from_pretrained(folder / "vae", **dtype).to(device),
            UNet2DConditionModel.from_pretrained(folder / "unet", **dtype).to(device),
            kind.from_pretrained(folder / "scheduler"),
        )
        for part in (parts.text_encoder, parts.vae):
            part.requires_grad_(False).eval()
        widen(parts.unet, parts.vae.config.latent_channels)
        if device.type == "cpu":  # its backward pass is 3 times as fast as the fused kernel's
            parts.unet.set_attn_processor(AttnProcessor())
        return parts

    @property
    def px_of_a_latent(self) -> int:
        """Count the px of a side that one latent stands for."""
        return downsampling(self.vae.config.block_out_channels)

    @property
    def noising(self) -> DDPMScheduler:
        """Make the noise levels of training out of the folder's."""
        return DDPMScheduler.from_config(self.scheduler.config)

    def tokens(self, texts: list[str]) -> Tensor:
        """(N, positions) token ids, cut and padded."""
        found = self.tokenizer(
            texts,
            padding="max_length",
            max_length=self.text_encoder.config.max_position_embeddings,
            truncation=True,
            return_tensors="pt",
        )
        return found.input_ids.to(self.text_encoder.device)

    def pipeline(self) -> StableDiffusionInstructPix2PixPipeline:
        """Put them together."""
        made = StableDiffusionInstructPix2PixPipeline(
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=self.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        made.set_progress_bar_config(disable=True)
        return made


def widen(unet: UNet2DConditionModel, channels: int) -> None:
    """Let a UNet take the `channels` of a source beside its own; they change nothing yet.

    As InstructPix2Pix began at Stable Diffusion (Brooks et al. 2023, section 3.2). One that takes
    them already stays as it is. Raises `ModelError` for any other number of channels.
    """
    found = unet.config.in_channels
    if found == 2 * channels:
        return
    if found != channels:
        raise ModelError(f"the UNet takes {found} channels, neither {channels} nor {2 * channels}")
    old = unet.conv_in
    new = nn.Conv2d(2 * channels, old.out_channels, old.kernel_size, old.stride, old.padding)
    with torch.no_grad():
        new.weight.zero_()
        new.weight[:, :channels].copy_(old.weight)
        new.bias.copy_(old.bias)
    unet.conv_in = new.to(old.weight.device)
    unet.register_to_config(in_channels=2 * channels)


class Learner(nn.Module):
    """The UNet, with its LoRA where that is all that learns, and the last layers of the encoder."""

    def __init__(self, parts: Parts, options: argparse.Namespace) -> None:
        super().__init__()
        text_layers = options.train_text_encoder_layers
        self.unet = parts.unet
        self.text_encoder = parts.text_encoder if text_layers else None
        if options.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        if options.rank:
            self.unet.requires_grad_(False)
            self.unet.add_adapter(_lora(options.rank, options.lora_layers))
        if text_layers:
            learning = parts.text_encoder.encoder.layers[-text_layers:]
            for layer in (*learning, parts.text_encoder.final_layer_norm):
                layer.requires_grad_(True)

    @property
    def learning(self) -> dict[str, nn.Parameter]:
        """Name -> weight, of those that training moves."""
        return {name: w for name, w in self.named_parameters() if w.requires_grad}

    def forward(self, rows: Tensor, levels: Tensor, text: Tensor) -> Tensor:
        """(N, 2 C, h, w), (N,), tokens (N, T) or states (N, T, D) -> (N, C, h, w)."""
        states = text if self.text_encoder is None else self.text_encoder(text).last_hidden_state
        return self.unet(rows, levels, states).sample


def _lora(rank: int, layers: str) -> LoraConfig:
    return LoraConfig(
        r=rank,
        lora_alpha=rank,
        init_lora_weights="gaussian",
        target_modules=layers.split(","),
    )


def write_lora(unet: UNet2DConditionModel, folder: Path) -> None:
    """Write the adapter of a UNet as diffusers names it, in float16."""
    halves = get_peft_model_state_dict(unet)
    StableDiffusionInstructPix2PixPipeline.save_lora_weights(
        folder, unet_lora_layers={n: half.half().contiguous() for n, half in halves.items()}
    )


def write_model(parts: Parts, side_px: int, folder: Path) -> None:
    """Write a diffusers folder, each part of which is there as a whole; `side_px`: its own size."""
    parts.unet.register_to_config(sample_size=side_px // parts.px_of_a_latent)
    fresh = folder / ".model"
    shutil.rmtree(fresh, ignore_errors=True)
    parts.pipeline().save_pretrained(fresh, safe_serialization=True)
    clean_configs(fresh)
    for part in sorted(fresh.iterdir(), key=lambda path: path.name == "model_index.json"):
        place = folder / part.name
        if place.is_dir():
            shutil.rmtree(place)
        os.replace(part, place)
    fresh.rmdir()
