"""InstructPix2Pix on SDXL (Podell et al. 2023): two texts, and the sizes as a condition."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from engine.catalogue import SDXL_INSTRUCT_PIX2PIX
from engine.edit import EditRequest
from engine.errors import ModelError
from engine.guidance import branches
from engine.models import Conditioning, Inputs, Placement
from engine.models.parts import downsampling, load_denoiser, load_part, tune_parts
from engine.models.pictures import SourceLatents, decode_latents, latent_mask, to_unit
from engine.models.sdxl_text import SdxlText
from engine.models.texts import check_texts
from engine.registry import read_json
from engine.sampling import Schedule
from engine.schedulers import kind_of
from engine.spec import ModelSpec

if TYPE_CHECKING:  # diffusers takes 10 s of a processor to import: only `load` pays it
    from diffusers import AutoencoderKL, UNet2DConditionModel

SOURCE_BYTES = 32 << 20  # of kept latents: 220 sources at 768 px in float32


class SdxlInstructPix2Pix:
    """A UNet over the noisy latents with the source's latents beside them."""

    example = Schedule(4)
    ragged: frozenset[str] = frozenset()
    denoiser_part = "unet"
    lora_loader = "StableDiffusionXLLoraLoaderMixin"

    def __init__(
        self,
        spec: ModelSpec,
        text: SdxlText,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        scheduler_config: dict[str, Any],
        *,
        scales_source: bool = False,
    ) -> None:
        """`scales_source`: the UNet is shown the source in the scale of the state (CosXL)."""
        self.spec = spec
        self.device = unet.device
        self.scheduler_config = scheduler_config
        self._text = text
        self._vae = vae
        self._unet = self.denoiser = unet
        self._source_scale = vae.config.scaling_factor if scales_source else 1.0
        self._mean, self._deviation = _statistics(vae)
        self._factor = downsampling(vae.config.block_out_channels)  # px that a latent stands for
        self._sources = SourceLatents(self._encode_images, SOURCE_BYTES)

    @classmethod
    def describe(cls, folder: Path) -> ModelSpec:
        """See `Editor.describe`; the multiple is VAE factor x UNet downsampling."""
        vae = read_json(folder / "vae" / "config.json")
        unet = read_json(folder / "unet" / "config.json")
        channels = 2 * vae["latent_channels"]
        if unet["in_channels"] != channels:
            raise ModelError(
                f"{folder} is no InstructPix2Pix on SDXL: its UNet takes {unet['in_channels']} "
                f"channels, not {channels} (noisy and source latents)"
            )
        if "is_cosxl_edit" not in read_json(folder / "model_index.json"):
            _check_scheduler(folder)
        factor = downsampling(vae["block_out_channels"])
        side = (unet.get("sample_size") or 128) * factor  # 128: diffusers' pipeline
        return SDXL_INSTRUCT_PIX2PIX.of_folder(
            folder,
            resolution=side,
            sizes=((side, side),),
            multiple=factor * downsampling(unet["block_out_channels"]),
            max_side=2 * side,
        )

    @classmethod
    def load(cls, folder: Path, spec: ModelSpec, placement: Placement) -> Self:
        """See `Editor.load`; a VAE that leaves half precision's range (`force_upcast`) has none."""
        from diffusers import AutoencoderKL, UNet2DConditionModel

        index = read_json(folder / "model_index.json")
        overflows = read_json(folder / "vae" / "config.json").get("force_upcast", True)
        overflows = overflows and placement.dtype == torch.float16
        of_vae = replace(placement, dtype=torch.float32) if overflows else placement
        return cls(
            spec,
            SdxlText.load(
                folder,
                placement,
                no_text_is_zeros=index.get("force_zeros_for_empty_prompt", True),
            ),
            load_part(AutoencoderKL, folder / "vae", of_vae),
            load_denoiser(UNet2DConditionModel, folder / "unet", placement),
            read_json(folder / "scheduler" / "scheduler_config.json"),
            scales_source=index.get("is_cosxl_edit", False),
        )

    def tune(self, *, channels_last: bool, compile: bool) -> None:
        """See `Editor.tune`."""
        tune_parts(self._unet, [self._unet, self._vae], channels_last, compile)

    def schedule(self, request: EditRequest) -> Schedule:
        """See `Editor.schedule`: the levels depend on the steps alone."""
        return Schedule(request.options.num_inference_steps)

    def check(self, request: EditRequest) -> Sequence[str]:
        """Refuse an instruction or negative prompt that a text encoder would truncate."""
        return check_texts(request, self.spec, self._text)

    def encode(self, requests: Sequence[EditRequest]) -> list[Conditioning]:
        """See `Editor.encode`; texts are embedded one by one, and kept."""
        modes = self._sources.of_canvases(requests)
        return [self._condition(*pair) for pair in zip(requests, modes, strict=True)]

    def _condition(self, request: EditRequest, mode: torch.Tensor) -> Conditioning:
        """`mode` (C, h, w) float32: of the source's posterior, not scaled."""
        negative = request.options.negative_prompt
        texts = {"text_image": request.instruction, "image": negative, "none": negative}
        weights = branches(self.spec.guidance, request.options)
        image = (mode * self._source_scale).to(self._unet.dtype)
        rows = [
            {
                **self._text.embed(texts[branch]),
                "image": torch.zeros_like(image) if branch == "none" else image,
                "sizes": self._sizes(request),
            }
            for branch in weights
        ]
        return Conditioning(
            rows,
            list(weights.values()),
            tuple(mode.shape),
            source=(mode - self._mean) / self._deviation,
            mask=latent_mask(request, self._factor, self.device),
        )

    def _sizes(self, request: EditRequest) -> torch.Tensor:
        """Height and width that the picture had, where it was cropped (0, 0), what it has; px."""
        height, width = request.pixels.shape[:2]
        sizes = torch.tensor([height, width, 0, 0, height, width], dtype=torch.float32)
        return sizes.to(self.device)

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        inputs: Inputs,
        layout: Hashable,
    ) -> torch.Tensor:
        """See `Editor.predict`; `inputs`: text (N, T, D), pooled (N, P), image (N, C, h, w),
        sizes (N, 6)."""
        rows = torch.cat([latents.to(self._unet.dtype), inputs["image"]], dim=1)
        output = self._unet(
            rows,
            timesteps,
            encoder_hidden_states=inputs["text"],
            added_cond_kwargs={"text_embeds": inputs["pooled"], "time_ids": inputs["sizes"]},
            return_dict=False,
        )[0]
        return output.float()

    def decode(self, latents: torch.Tensor, *, float32: bool = False) -> list[np.ndarray]:
        """See `Editor.decode`."""
        scaled = latents * self._deviation + self._mean
        return decode_latents(self._vae, scaled, float32=float32)

    def _encode_images(self, pixels: np.ndarray) -> torch.Tensor:
        """(N, H, W, 3) uint8 -> (N, C, h, w) float32: the mode of the posterior, not scaled."""
        images = to_unit(pixels, self.device).to(self._vae.dtype)
        return self._vae.encode(images).latent_dist.mode().float()


def _check_scheduler(folder: Path) -> None:
    """Refuse a folder that may be CosXL's and does not say so: diffusers forgets it on saving."""
    name = read_json(folder / "scheduler" / "scheduler_config.json").get("_class_name")
    if kind_of(str(name)) == "an EDM":
        raise ModelError(
            f'{folder}: its scheduler is {name}, as CosXL\'s; write "is_cosxl_edit": true into its '
            "model_index.json if it is CosXL's edit model, else false"
        )


def _statistics(vae: AutoencoderKL) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of the VAE's latents, each (C, 1, 1) float32: (0, 1) in the state."""
    config, channels = vae.config, vae.config.latent_channels
    mean = torch.tensor(config.get("latents_mean") or [0.0] * channels, device=vae.device)
    deviation = torch.tensor(config.get("latents_std") or [1.0] * channels, device=vae.device)
    return mean.view(-1, 1, 1), deviation.view(-1, 1, 1) / config.scaling_factor
