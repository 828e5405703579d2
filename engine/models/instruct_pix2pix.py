"""InstructPix2Pix (Brooks et al. 2023) in the diffusers layout: VAE, UNet, CLIP, scheduler."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from engine.edit import EditRequest
from engine.errors import InstructionLanguage, InstructionTooLong, ModelError, NonFinite
from engine.guidance import branches
from engine.models import Conditioning, Inputs
from engine.registry import (
    PIX2PIX_DEFAULTS,
    PIX2PIX_EDITOR,
    PIX2PIX_OPTIONS,
    ModelSpec,
    read_json,
)
from engine.sampling import Schedule
from engine.tensor_cache import TensorCache
from engine.text import unknown_scripts

if TYPE_CHECKING:  # diffusers takes 10 s of a processor to import: only `load` pays it
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

SOURCE_BYTES = 8 << 20  # of kept latents: 256 sources at 512 px in half precision
TEXT_BYTES = 128 << 20  # of kept embeddings: 1,100 texts of CLIP-L in half precision


class InstructPix2Pix:
    """A UNet over the noisy latents with the source's latents beside them."""

    example = Schedule(4)
    ragged: frozenset[str] = frozenset()

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
        self._sources = TensorCache(SOURCE_BYTES)
        self._texts = TensorCache(TEXT_BYTES)

    @classmethod
    def describe(cls, folder: Path) -> ModelSpec:
        """See `Editor.describe`; the multiple is VAE factor x UNet downsampling."""
        vae = read_json(folder / "vae" / "config.json")
        unet = read_json(folder / "unet" / "config.json")
        factor = 2 ** (len(vae["block_out_channels"]) - 1)
        side = unet.get("sample_size")
        return ModelSpec(
            name=folder.name,
            source=str(folder),
            editor=PIX2PIX_EDITOR,
            guidance="two_scale",
            options=PIX2PIX_OPTIONS,
            defaults=PIX2PIX_DEFAULTS,
            resolution=side * factor if isinstance(side, int) else 512,
            multiple=factor * 2 ** (len(unet["block_out_channels"]) - 1),
        )

    @classmethod
    def load(cls, folder: Path, spec: ModelSpec, device: torch.device, dtype: torch.dtype) -> Self:
        """Load only safetensors, and build only the classes named here."""
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()

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
            read_json(folder / "scheduler" / "scheduler_config.json"),
        )

    def tune(self, *, channels_last: bool, compile: bool) -> None:
        """See `Editor.tune`."""
        if channels_last:
            self._unet.to(memory_format=torch.channels_last)
            self._vae.to(memory_format=torch.channels_last)
        if compile:
            self._unet.compile_repeated_blocks()

    def schedule(self, request: EditRequest) -> Schedule:
        """See `Editor.schedule`: the levels depend on the steps alone."""
        return Schedule(request.options.num_inference_steps)

    def check(self, request: EditRequest) -> Sequence[str]:
        """Refuse an instruction or negative prompt that the text encoder would truncate."""
        bound = self._tokenizer.model_max_length
        for name, text in (
            ("instruction", request.instruction),
            ("negative_prompt", request.options.negative_prompt or ""),
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
        """See `Editor.encode`. The texts are embedded one by one: 0.03% of an edit's arithmetic."""
        images = self._source_latents(requests)
        return [self._condition(*pair) for pair in zip(requests, images, strict=True)]

    def _condition(self, request: EditRequest, image: torch.Tensor) -> Conditioning:
        negative = request.options.negative_prompt or ""
        texts = {"text_image": request.instruction, "image": negative, "none": negative}
        weights = branches(self.spec.guidance, request.options)
        rows = [
            {
                "text": self._embed(texts[branch]),
                "image": torch.zeros_like(image) if branch == "none" else image,
            }
            for branch in weights
        ]
        return Conditioning(rows, list(weights.values()), tuple(image.shape))

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        inputs: Inputs,
        layout: Hashable,
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
        latents = [self._sources.get(key) for key in keys]
        new = [i for i, known in enumerate(latents) if known is None]
        if new:
            encoded = self._encode_images(np.stack([requests[i].pixels for i in new]))
            for i, made in zip(new, encoded, strict=True):
                latents[i] = made
                if requests[i].digest:
                    self._sources.put(keys[i], made)
        return latents

    def _encode_images(self, pixels: np.ndarray) -> torch.Tensor:
        """(N, H, W, 3) uint8 -> (N, C, h, w): the mode of the posterior, not scaled."""
        images = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
        images = (images.float() / 255 * 2 - 1).contiguous().to(self._vae.dtype)
        return self._vae.encode(images).latent_dist.mode().to(self._unet.dtype)

    def _embed(self, text: str) -> torch.Tensor:
        """(T, D), padded to the encoder's full length; kept for the next time."""
        embedding = self._texts.get(text)
        if embedding is None:
            embedding = self._embed_text(text)
            self._texts.put(text, embedding)
        return embedding

    def _embed_text(self, text: str) -> torch.Tensor:
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
