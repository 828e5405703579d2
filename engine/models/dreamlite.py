"""DreamLite (ByteDance 2026): a UNet that sees the source to the right of the picture."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from engine.catalogue import DREAMLITE, DREAMLITE_MOBILE
from engine.edit import EditRequest, digest_of
from engine.guidance import branches
from engine.models import Conditioning, Inputs, Placement
from engine.models.parts import check_channels, downsampling, load_denoiser, load_part, tune_parts
from engine.models.pictures import (
    SourceLatents,
    decode_latents,
    latent_mask,
    to_unit,
)
from engine.models.qwen_text import QwenText, as_rows
from engine.models.texts import check_texts
from engine.models.tokens import canvas_shift
from engine.registry import read_json
from engine.sampling import Schedule
from engine.spec import ModelSpec

if TYPE_CHECKING:  # diffusers takes 10 s of a processor to import: only `load` pays it
    from diffusers import AutoencoderTiny, DreamLiteUNetModel

SOURCE_BYTES = 64 << 20  # of kept latents: 256 sources of a megapixel in float32
SHOWN_PX = (512, 512)  # that a source is stretched to where the text encoder sees it
# What the model was trained with, word by word: the source stands to the right of the edit.
DIPTYCH = (
    "[Edit]: A diptych with two side-by-side images of the same scene. Compared to the right side, "
    "the left one has "
)


class DreamLite:
    """Guides as InstructPix2Pix does; the mobile variant is distilled, and guides by nothing."""

    ragged = frozenset({"text", "mask"})

    def __init__(
        self,
        spec: ModelSpec,
        text: QwenText,
        vae: AutoencoderTiny,
        unet: DreamLiteUNetModel,
        scheduler_config: dict[str, Any],
    ) -> None:
        self.spec = spec
        self.device = unet.device
        self.scheduler_config = {"max_shift": 1.16, **scheduler_config}  # diffusers' DreamLite
        self.example = Schedule(4, mu=canvas_shift(4096, self.scheduler_config), linear=True)
        self._text = text
        self._vae = vae
        self._unet = unet
        self._factor = downsampling(vae.config.encoder_block_out_channels)  # px of a latent
        self._sources = SourceLatents(self._encode_images, SOURCE_BYTES)

    @classmethod
    def describe(cls, folder: Path) -> ModelSpec:
        """See `Editor.describe`; the multiple is VAE factor x UNet downsampling."""
        vae = read_json(folder / "vae" / "config.json")
        unet = read_json(folder / "unet" / "config.json")
        channels = vae["latent_channels"]
        check_channels(folder, "DreamLite", "UNet", unet["in_channels"], channels)
        pipeline = read_json(folder / "model_index.json")["_class_name"]
        factor = downsampling(vae["encoder_block_out_channels"])
        known = DREAMLITE_MOBILE if pipeline == "DreamLiteMobilePipeline" else DREAMLITE
        multiple = factor * downsampling(unet["block_out_channels"])
        return known.of_folder(folder, multiple=multiple)

    @classmethod
    def load(cls, folder: Path, spec: ModelSpec, placement: Placement) -> Self:
        """See `Editor.load`; one part after another, so that the host never holds two."""
        from diffusers import AutoencoderTiny, DreamLiteUNetModel
        from transformers import Qwen3VLForConditionalGeneration

        return cls(
            spec,
            QwenText.load(
                Qwen3VLForConditionalGeneration,
                folder,
                placement,
                shown_at=lambda _: SHOWN_PX,
            ),
            load_part(AutoencoderTiny, folder / "vae", placement),
            load_denoiser(DreamLiteUNetModel, folder / "unet", placement),
            read_json(folder / "scheduler" / "scheduler_config.json"),
        )

    def tune(self, *, channels_last: bool, compile: bool) -> None:
        """See `Editor.tune`."""
        tune_parts(self._unet, [self._unet, self._vae], channels_last, compile)

    def schedule(self, request: EditRequest) -> Schedule:
        """See `Editor.schedule`: the shift depends on the canvas."""
        height, width = request.pixels.shape[:2]
        quarter = height * width // (2 * self._factor) ** 2  # of the latents (diffusers)
        return Schedule(
            request.options.num_inference_steps,
            mu=canvas_shift(quarter, self.scheduler_config),
            linear=True,
        )

    def check(self, request: EditRequest) -> Sequence[str]:
        """Refuse texts that are too long, and warn of a script that Qwen3-VL does not know."""
        return check_texts(request, self.spec, self._text)

    def encode(self, requests: Sequence[EditRequest]) -> list[Conditioning]:
        """See `Editor.encode`; texts are read one by one with their source, and kept."""
        sources = self._sources.of_canvases(requests)
        return [self._condition(*pair) for pair in zip(requests, sources, strict=True)]

    def _condition(self, request: EditRequest, latents: torch.Tensor) -> Conditioning:
        """`latents` (C, h, w) float32: of the source, as the VAE gives them."""
        negative = request.options.negative_prompt or ""
        unguided = {"image": negative, "none": negative}
        weights = branches(self.spec.guidance, request.options)
        texts = [unguided.get(branch, DIPTYCH + request.instruction) for branch in weights]
        digest = request.digest or digest_of(request.pixels)
        embedded = [self._text.embed(text, [request.pixels], [digest]) for text in texts]
        image = latents.to(self._unet.dtype)
        height, width = request.pixels.shape[:2]
        size = torch.tensor([width, height], dtype=torch.float32).to(self.device)
        rows = [
            {
                **row,
                "image": torch.zeros_like(image) if branch == "none" else image,
                "size": size,
            }
            for branch, row in zip(weights, as_rows(embedded), strict=True)
        ]
        config = self._vae.config
        return Conditioning(
            rows,
            list(weights.values()),
            tuple(latents.shape),
            source=(latents - config.shift_factor) * config.scaling_factor,
            mask=latent_mask(request, self._factor, self.device),
        )

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        inputs: Inputs,
        layout: Hashable,
    ) -> torch.Tensor:
        """See `Editor.predict`; `inputs`: text (N, T, D), mask (N, T), image (N, C, h, w),
        size (N, 2)."""
        dtype = self._unet.dtype
        output = self._unet(
            torch.cat([latents.to(dtype), inputs["image"]], dim=3),
            timesteps.to(dtype),
            encoder_hidden_states=inputs["text"],
            encoder_attention_mask=inputs["mask"],
            added_cond_kwargs={"time_ids": inputs["size"]},
            return_dict=False,
        )[0]
        return output[..., : latents.shape[3]].float()

    def decode(self, latents: torch.Tensor, *, float32: bool = False) -> list[np.ndarray]:
        """See `Editor.decode`."""
        config = self._vae.config
        scaled = latents / config.scaling_factor + config.shift_factor
        return decode_latents(self._vae, scaled, float32=float32)

    def _encode_images(self, pixels: np.ndarray) -> torch.Tensor:
        """(N, H, W, 3) uint8 -> (N, C, h, w) float32, not scaled."""
        images = to_unit(pixels, self.device).to(self._vae.dtype)
        return self._vae.encode(images).latents.float()
