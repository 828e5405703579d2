"""Stable Diffusion 1.x under a ControlNet (Zhang et al. 2023): a text in the edges of a source."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from engine.catalogue import SD15_CANNY
from engine.edit import EditRequest
from engine.errors import ModelError, OptionInvalid
from engine.guidance import branches
from engine.models import Conditioning, Inputs, Placement
from engine.models.clip_text import ClipText
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
from engine.weights import find_part

if TYPE_CHECKING:  # diffusers takes 10 s of a processor to import: only `load` pays it
    from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel

SOURCE_BYTES = 16 << 20  # of kept posteriors: 128 sources at 512 px in float32
# What a UNet and its ControlNet must have alike, or the sums of their levels are of other places.
SHARED = (
    *("in_channels", "block_out_channels", "down_block_types", "layers_per_block"),
    "cross_attention_dim",
)


class ControlNet:
    """A UNet over the noisy latents, to whose levels a second network adds what it makes of the
    control image.

    Without `strength` it is `StableDiffusionControlNetPipeline`: the source is seen through the
    control image alone. With it, 1 too, `StableDiffusionControlNetImg2ImgPipeline`: a run begins at
    the source under the noise of a step.
    """

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
        controlnet: ControlNetModel,
        scheduler_config: dict[str, Any],
    ) -> None:
        self.spec = spec
        self.device = unet.device
        self.scheduler_config = scheduler_config
        self._text = text
        self._vae = vae
        self._unet = self.denoiser = unet
        self._controlnet = controlnet
        self._factor = downsampling(vae.config.block_out_channels)  # px that a latent stands for
        self._posteriors = SourceLatents(self._encode_images, SOURCE_BYTES)

    @classmethod
    def describe(cls, folder: Path) -> ModelSpec:
        """See `Editor.describe`; a folder without a ControlNet has that of `SD15_CANNY`."""
        index = read_json(folder / "model_index.json")
        vae = read_json(folder / "vae" / "config.json")
        unet = read_json(folder / "unet" / "config.json")
        if unet["in_channels"] != vae["latent_channels"]:
            raise ModelError(
                f"{folder} makes no pictures from a text alone: its UNet takes "
                f"{unet['in_channels']} channels, not {vae['latent_channels']}"
            )
        own = (index.get("controlnet") or [None, None])[1]
        if own not in (None, "ControlNetModel"):
            raise ModelError(f"{folder} has a {own}; rayedit takes one ControlNetModel")
        if own is not None:
            _check_fits(unet, read_json(folder / "controlnet" / "config.json"), folder)
        parts = {} if own else SD15_CANNY.parts
        described = SD15_CANNY.of_folder(folder, parts=parts, **canvas_sides(vae, unet))
        if index["_class_name"] != "StableDiffusionControlNetImg2ImgPipeline":
            return described
        pipelines = {"strength": 0.8, "controlnet_conditioning_scale": 0.8}  # its own defaults
        return replace(described, defaults={**described.defaults, **pipelines})

    @classmethod
    def load(cls, folder: Path, spec: ModelSpec, placement: Placement) -> Self:
        """See `Editor.load`."""
        from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel

        apart = "controlnet" in spec.parts
        controlnet = find_part(spec, "controlnet") if apart else folder / "controlnet"
        unet = read_json(folder / "unet" / "config.json")
        _check_fits(unet, read_json(controlnet / "config.json"), controlnet)
        return cls(
            spec,
            ClipText.load(folder, placement),
            load_part(AutoencoderKL, folder / "vae", placement),
            load_denoiser(UNet2DConditionModel, folder / "unet", placement),
            load_denoiser(ControlNetModel, controlnet, placement),
            read_json(folder / "scheduler" / "scheduler_config.json"),
        )

    def tune(self, *, channels_last: bool, compile: bool) -> None:
        """See `Editor.tune`; diffusers knows no repeated blocks of a ControlNet."""
        parts = [self._unet, self._controlnet, self._vae]
        tune_parts(self._unet, parts, channels_last, compile)

    def schedule(self, request: EditRequest) -> Schedule:
        """See `Editor.schedule`; raises `OptionInvalid` where `strength` leaves no step."""
        options = request.options
        steps = options.num_inference_steps
        return Schedule(steps, begin=_first_step(steps, options.strength))

    def check(self, request: EditRequest) -> Sequence[str]:
        """Refuse a text that CLIP would cut, and a request without its control image."""
        if [control.shape for control in request.references] != [request.pixels.shape]:
            raise OptionInvalid(
                f"image: model {self.spec.name} needs a control image as large as the canvas: "
                "`engine.sources.prepare` makes it",
                param="image",
            )
        return check_texts(request, self.spec, self._text)

    def encode(self, requests: Sequence[EditRequest]) -> list[Conditioning]:
        """See `Editor.encode`. Only sources that something begins at or is kept of are encoded."""
        seen = [r for r in requests if r.options.strength is not None or r.compares_source]
        known = dict(zip(map(id, seen), self._posteriors.of_canvases(seen), strict=True))
        return [self._condition(request, known.get(id(request))) for request in requests]

    def _condition(self, request: EditRequest, posterior: torch.Tensor | None) -> Conditioning:
        """`posterior` (2 C, h, w) float32: mean and deviation, in the scale of the state."""
        options = request.options
        texts = {"text": request.instruction, "negative": options.negative_prompt or ""}
        scale = torch.tensor(options.scale("controlnet_conditioning_scale"), dtype=torch.float32)
        shared = {"control": self._control(request), "scale": scale.to(self.device)}
        weights = branches(self.spec.guidance, options)
        rows = [{"text": self._text.embed(texts[branch]), **shared} for branch in weights]
        source, deviation = (None, None) if posterior is None else posterior.chunk(2)
        height, width = (side // self._factor for side in request.pixels.shape[:2])
        return Conditioning(
            rows,
            list(weights.values()),
            (self._vae.config.latent_channels, height, width),
            source=source,
            deviation=None if options.strength is None else deviation,
            mask=latent_mask(request, self._factor, self.device),
            outside=[{**row, "scale": torch.zeros_like(row["scale"])} for row in rows],
        )

    def _control(self, request: EditRequest) -> torch.Tensor:
        """The control image, (3, H, W) from 0 to 1 in the ControlNet's dtype."""
        pixels = torch.from_numpy(request.references[0].copy()).to(self.device).permute(2, 0, 1)
        return (pixels.float() / 255).to(self._controlnet.dtype).contiguous()

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        inputs: Inputs,
        layout: Hashable,
    ) -> torch.Tensor:
        """See `Editor.predict`; `inputs`: text (N, T, D), control (N, 3, H, W), scale (N,)."""
        shown = latents.to(self._unet.dtype)
        levels, middle = self._controlnet(
            shown,
            timesteps,
            encoder_hidden_states=inputs["text"],
            controlnet_cond=inputs["control"],
            conditioning_scale=inputs["scale"].view(-1, 1, 1, 1),
            return_dict=False,
        )
        output = self._unet(
            shown,
            timesteps,
            encoder_hidden_states=inputs["text"],
            down_block_additional_residuals=[level.to(shown.dtype) for level in levels],
            mid_block_additional_residual=middle.to(shown.dtype),
            return_dict=False,
        )[0]
        return output.float()

    def decode(self, latents: torch.Tensor, *, float32: bool = False) -> list[np.ndarray]:
        """See `Editor.decode`."""
        scaled = latents / self._vae.config.scaling_factor
        return decode_latents(self._vae, scaled, float32=float32)

    def _encode_images(self, pixels: np.ndarray) -> torch.Tensor:
        """(N, H, W, 3) uint8 -> (N, 2 C, h, w) float32: see `_condition`."""
        images = to_unit(pixels, self.device).to(self._vae.dtype)
        posterior = self._vae.encode(images).latent_dist
        both = torch.cat([posterior.mean, posterior.std], dim=1)
        return both.float() * self._vae.config.scaling_factor


def _first_step(num_inference_steps: int, strength: float | None) -> int | None:
    """The step that a run from the source begins at; `None` from noise alone.

    `strength`: the share of the steps that is run (diffusers' `get_timesteps` of Stable Diffusion,
    which rounds another way than FLUX's). Raises `OptionInvalid` where that is none.
    """
    if strength is None:
        return None
    count = int(num_inference_steps * strength)
    if count == 0:
        raise OptionInvalid(
            f"strength {strength} of {num_inference_steps} steps is less than one step: ask for "
            f"at least 1/{num_inference_steps}, or for more steps",
            param="strength",
        )
    return num_inference_steps - count


def _check_fits(unet: Mapping[str, Any], controlnet: Mapping[str, Any], folder: Path) -> None:
    """Refuse a ControlNet of another UNet; `folder`: where it is, for the message."""
    for name in SHARED:
        if controlnet.get(name) != unet.get(name):
            raise ModelError(
                f"{folder}: the ControlNet does not fit the UNet, its {name} is "
                f"{controlnet.get(name)} and not {unet.get(name)}"
            )
    if controlnet.get("global_pool_conditions"):
        raise ModelError(
            f"{folder}: a ControlNet that pools its levels needs diffusers' guess mode"
        )
