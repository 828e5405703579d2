"""InstructPix2Pix (Brooks et al. 2023) in the diffusers layout: VAE, UNet, CLIP, scheduler."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from engine.edit import EditRequest
from engine.errors import InstructionLanguage, InstructionTooLong, ModelError, NonFinite
from engine.guidance import Branch
from engine.models import Conditioning, Inputs
from engine.registry import ModelSpec
from engine.text import unknown_scripts

MAX_SOURCES = 256  # kept latents; 8 MiB at 512 px in half precision


class InstructPix2Pix:
    """A UNet over the noisy latents with the source's latents beside them."""

    def __init__(
        self,
        spec: ModelSpec,
        tokenizer: CLIPTokenizer,
        text_encoder: CLIPTextModel,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        scheduler_config: dict[str, Any],
    ) -> None:
        channels = 2 * vae.config.latent_channels
        if unet.config.in_channels != channels:
            raise ModelError(
                f"{spec.name} is not an InstructPix2Pix: its UNet takes {unet.config.in_channels} "
                f"channels, not {channels} (noisy and source latents)"
            )
        self.spec = spec
        self.device = unet.device
        self.scheduler_config = scheduler_config
        self._tokenizer = tokenizer
        self._tokenizing = threading.Lock()  # padding settings are shared state of a tokenizer
        self._text_encoder = text_encoder
        self._vae = vae
        self._unet = unet
        self._sources: dict[tuple[object, ...], torch.Tensor] = {}  # the latest last
        self._embed = lru_cache(maxsize=1024)(self._embed_text)

    @classmethod
    def load(cls, folder: Path, spec: ModelSpec, device: torch.device, dtype: torch.dtype) -> Self:
        """Only safetensors are read, and only the classes named here are built."""
        transformers_logging.disable_progress_bar()

        def part(kind: Any, name: str) -> Any:
            weights = kind.from_pretrained(
                folder / name, dtype=dtype, use_safetensors=True, local_files_only=True
            )
            return weights.to(device).eval().requires_grad_(False)

        return cls(
            spec,
            CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
            part(CLIPTextModel, "text_encoder"),
            part(AutoencoderKL, "vae"),
            part(UNet2DConditionModel, "unet"),
            json.loads((folder / "scheduler" / "scheduler_config.json").read_text()),
        )

    def tune(self, *, channels_last: bool, compile: bool) -> None:
        """See `Editor.tune`."""
        if channels_last:
            self._unet.to(memory_format=torch.channels_last)
            self._vae.to(memory_format=torch.channels_last)
        if compile:
            self._unet.compile_repeated_blocks()

    def check(self, request: EditRequest) -> Sequence[str]:
        """Instruction and negative prompt must fit the text encoder: nothing is truncated."""
        bound = self._tokenizer.model_max_length
        for name, text in (
            ("instruction", request.instruction),
            ("negative_prompt", request.options.negative_prompt),
        ):
            with self._tokenizing:
                count = len(self._tokenizer(text, verbose=False).input_ids)
            if count > bound:
                raise InstructionTooLong(
                    f"{name} has {count} tokens and model {self.spec.name} reads {bound}: "
                    "make it shorter",
                    param=name,
                )
        unknown = unknown_scripts(request.instruction, self.spec.scripts)
        if unknown and request.options.strict_language:
            raise InstructionLanguage(
                f"model {self.spec.name} does not know the script {', '.join(unknown)}; it knows "
                f"{', '.join(self.spec.scripts)}"
            )
        return ["language_unsupported"] if unknown else []

    def encode(self, requests: Sequence[EditRequest]) -> list[Conditioning]:
        """The text rows are embedded one by one and kept: 0.03% of an edit's arithmetic."""
        images = self._source_latents(requests)
        blank = torch.zeros_like(images[0])
        conditionings = []
        for request, image in zip(requests, images, strict=True):
            text = self._embed(request.instruction)
            negative = self._embed(request.options.negative_prompt)
            branches: dict[Branch, Inputs] = {
                "text_image": {"text": text, "image": image},
                "image": {"text": negative, "image": image},
                "none": {"text": negative, "image": blank},
            }
            conditionings.append(Conditioning(branches, tuple(image.shape)))
        return conditionings

    def predict(
        self, latents: torch.Tensor, timesteps: torch.Tensor, inputs: Inputs
    ) -> torch.Tensor:
        """See `Editor.predict`; `inputs`: text (N, T, D), image (N, C, h, w)."""
        rows = torch.cat([latents.to(self._unet.dtype), inputs["image"]], dim=1)
        output = self._unet(
            rows, timesteps, encoder_hidden_states=inputs["text"], return_dict=False
        )[0]
        return output.float()

    def decode(self, latents: torch.Tensor, *, float32: bool = False) -> list[np.ndarray]:
        """See `Editor.decode`."""
        dtype = self._vae.dtype
        try:
            if float32:
                self._vae.float()  # and back without loss: float32 holds every half exactly
            scaled = (latents / self._vae.config.scaling_factor).to(self._vae.dtype)
            images = self._vae.decode(scaled, return_dict=False)[0].float()
        finally:
            if float32:
                self._vae.to(dtype)
        if not torch.isfinite(images).all():
            raise NonFinite("the decoded image holds NaN or infinity")
        levels = (images * 0.5 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
        return list(levels.permute(0, 2, 3, 1).cpu().numpy())

    def _source_latents(self, requests: Sequence[EditRequest]) -> list[torch.Tensor]:
        """(C, h, w) of each source; one whose digest was met lately is not encoded again."""
        keys = [(request.digest, request.pixels.shape) for request in requests]
        latents = [self._sources.pop(key, None) for key in keys]
        new = [i for i, known in enumerate(latents) if known is None]
        if new:
            encoded = self._encode_images(np.stack([requests[i].pixels for i in new]))
            for i, made in zip(new, encoded, strict=True):
                latents[i] = made
        self._sources.update((k, v) for k, v in zip(keys, latents, strict=True) if k[0])
        for key in list(self._sources)[:-MAX_SOURCES]:
            del self._sources[key]
        return latents

    def _encode_images(self, pixels: np.ndarray) -> torch.Tensor:
        """(N, H, W, 3) uint8 -> (N, C, h, w): the mode of the posterior, not scaled."""
        images = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
        images = (images.float() / 255 * 2 - 1).contiguous().to(self._vae.dtype)
        return self._vae.encode(images).latent_dist.mode().to(self._unet.dtype)

    def _embed_text(self, text: str) -> torch.Tensor:
        """(T, D), padded to the encoder's full length."""
        with self._tokenizing:
            tokens = self._tokenizer(
                text,
                padding="max_length",
                max_length=self._tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            )
        uses_mask = getattr(self._text_encoder.config, "use_attention_mask", False)
        mask = tokens.attention_mask.to(self.device) if uses_mask else None
        hidden = self._text_encoder(tokens.input_ids.to(self.device), attention_mask=mask)[0]
        return hidden[0].to(self._unet.dtype)
