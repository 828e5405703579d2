"""InstructPix2Pix (Brooks et al. 2023) in the diffusers layout: VAE, UNet, CLIP, scheduler."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from engine.catalogue import INSTRUCT_PIX2PIX
from engine.edit import EditRequest
from engine.errors import InstructionUnknown, ModelError
from engine.guidance import branches
from engine.models import Conditioning, Inputs, Placement
from engine.models.clip_text import ClipText
from engine.models.known_edits import KnownEdits, has_known_edits
from engine.models.parts import (
    canvas_sides,
    downsampling,
    load_denoiser,
    load_part,
    tune_parts,
)
from engine.models.pictures import SourceLatents, decode_latents, latent_mask, to_unit
from engine.models.texts import check_texts
from engine.registry import read_json
from engine.sampling import Schedule
from engine.spec import ModelSpec

if TYPE_CHECKING:  # diffusers takes 10 s of a processor to import: only `load` pays it
    from diffusers import AutoencoderKL, UNet2DConditionModel

SOURCE_BYTES = 8 << 20  # of kept latents: 256 sources at 512 px in half precision


class InstructPix2Pix:
    """A UNet over the noisy latents with the source's latents beside them."""

    example = Schedule(4)
    ragged: frozenset[str] = frozenset()
    denoiser_part = "unet"
    lora_loader = "StableDiffusionLoraLoaderMixin"

    def __init__(
        self,
        spec: ModelSpec,
        text: ClipText,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        scheduler_config: dict[str, Any],
        known: KnownEdits | None = None,
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
        self._text = text
        self._known = known
        self._vae = vae
        self._unet = self.denoiser = unet
        self._factor = downsampling(vae.config.block_out_channels)  # px that a latent stands for
        self._sources = SourceLatents(self._encode_images, SOURCE_BYTES)

    @classmethod
    def describe(cls, folder: Path) -> ModelSpec:
        """See `Editor.describe`; the multiple is VAE factor x UNet downsampling."""
        vae = read_json(folder / "vae" / "config.json")
        unet = read_json(folder / "unet" / "config.json")
        known = {"strict_instruction"} if has_known_edits(folder) else set()
        return INSTRUCT_PIX2PIX.of_folder(
            folder,
            options=INSTRUCT_PIX2PIX.options | known,
            **canvas_sides(vae, unet),
        )

    @classmethod
    def load(cls, folder: Path, spec: ModelSpec, placement: Placement) -> Self:
        """Load only safetensors, and build only the classes named here."""
        from diffusers import AutoencoderKL, UNet2DConditionModel

        return cls(
            spec,
            ClipText.load(folder, placement),
            load_part(AutoencoderKL, folder / "vae", placement),
            load_denoiser(UNet2DConditionModel, folder / "unet", placement),
            read_json(folder / "scheduler" / "scheduler_config.json"),
            KnownEdits.load(folder, placement.device) if has_known_edits(folder) else None,
        )

    def tune(self, *, channels_last: bool, compile: bool) -> None:
        """See `Editor.tune`."""
        tune_parts(self._unet, [self._unet, self._vae], channels_last, compile)

    def schedule(self, request: EditRequest) -> Schedule:
        """See `Editor.schedule`: the levels depend on the steps alone."""
        return Schedule(request.options.num_inference_steps)

    def check(self, request: EditRequest) -> Sequence[str]:
        """Refuse texts that would be truncated; warn of an edit that the model does not know."""
        warnings = check_texts(request, self.spec, self._text)
        nearest = self._nearest_known(request)
        if nearest is None:
            return warnings
        if request.options.strict_instruction:
            raise InstructionUnknown(
                f"model {self.spec.name} does not know the edit that is asked for; the nearest it "
                f'knows is "{nearest}": word it otherwise, or take a larger model'
            )
        return [*warnings, "instruction_unknown"]

    def encode(self, requests: Sequence[EditRequest]) -> list[Conditioning]:
        """See `Editor.encode`. The texts are embedded one by one: 0.03% of an edit's arithmetic."""
        images = self._sources.of_canvases(requests)
        return [self._condition(*pair) for pair in zip(requests, images, strict=True)]

    def _condition(self, request: EditRequest, image: torch.Tensor) -> Conditioning:
        negative = request.options.negative_prompt or ""
        texts = {"text_image": request.instruction, "image": negative, "none": negative}
        weights = branches(self.spec.guidance, request.options)
        rows = [
            {
                "text": self._text.embed(texts[branch]),
                "image": torch.zeros_like(image) if branch == "none" else image,
            }
            for branch in weights
        ]
        return Conditioning(
            rows,
            list(weights.values()),
            tuple(image.shape),
            source=image.float() * self._vae.config.scaling_factor,
            mask=latent_mask(request, self._factor, self.device),
            understood_as=self._nearest_known(request),
        )

    def _nearest_known(self, request: EditRequest) -> str | None:
        """Name the edit that is made in place of one that the model does not know.

        None where it knows what is asked for, or cannot tell: a LoRA teaches edits of its own.
        """
        if self._known is None or request.adapter is not None:
            return None
        text = request.instruction
        return self._known.nearest_to_unknown(text, self._text.embed(text), self._text.count(text))

    def following(
        self, request: EditRequest, images: Sequence[np.ndarray]
    ) -> Sequence[float] | None:
        """See `Judging`. None of edits that no judge has seen: of a part, or by a LoRA."""
        is_strange = request.adapter is not None or request.mask is not None
        if self._known is None or is_strange:
            return None
        edited = (to_unit(np.stack(images), self.device) + 1) / 2
        source = (to_unit(np.stack([request.pixels]), self.device) + 1) / 2
        text = request.instruction
        read = self._text.embed(text), self._text.count(text)
        return self._known.following(source.expand_as(edited), edited, *read)

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
        scaled = latents / self._vae.config.scaling_factor
        return decode_latents(self._vae, scaled, float32=float32)

    def _encode_images(self, pixels: np.ndarray) -> torch.Tensor:
        """(N, H, W, 3) uint8 -> (N, C, h, w): the mode of the posterior, not scaled."""
        images = to_unit(pixels, self.device).to(self._vae.dtype)
        return self._vae.encode(images).latent_dist.mode().to(self._unet.dtype)
