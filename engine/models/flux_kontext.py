"""FLUX.1 Kontext (Black Forest Labs 2025): a transformer over text, noisy and source tokens."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from engine.catalogue import FLUX_KONTEXT
from engine.edit import EditRequest
from engine.guidance import branches
from engine.models import Conditioning, Inputs, Placement
from engine.models.flux_text import FluxText
from engine.models.parts import check_channels, downsampling, load_denoiser, load_part, tune_parts
from engine.models.pictures import SourceLatents, decode_latents, latent_mask, to_unit
from engine.models.texts import check_texts
from engine.models.tokens import canvas_shift, first_step, grid, pack, unpack
from engine.registry import read_json
from engine.sampling import Schedule
from engine.spec import ModelSpec

if TYPE_CHECKING:  # diffusers takes 10 s of a processor to import: only `load` pays it
    from diffusers import AutoencoderKL, FluxTransformer2DModel

SOURCE_BYTES = 64 << 20  # of kept latents: 64 sources of a megapixel in float32


class FluxKontext:
    """Guidance is an input of the model; a second branch guides away from a negative prompt."""

    ragged: frozenset[str] = frozenset()
    denoiser_part = "transformer"
    lora_loader = "FluxLoraLoaderMixin"

    def __init__(
        self,
        spec: ModelSpec,
        text: FluxText,
        vae: AutoencoderKL,
        transformer: FluxTransformer2DModel,
        scheduler_config: dict[str, Any],
    ) -> None:
        self.spec = spec
        self.device = transformer.device
        self.scheduler_config = scheduler_config
        self.example = Schedule(4, mu=canvas_shift(4096, scheduler_config), linear=True)
        self._text = text
        self._vae = vae
        self._transformer = self.denoiser = transformer
        self._factor = spec.multiple // 2  # px that a latent stands for
        self._sources = SourceLatents(self._encode_images, SOURCE_BYTES)

    @classmethod
    def describe(cls, folder: Path) -> ModelSpec:
        """See `Editor.describe`; a side is a multiple of VAE factor x patch."""
        vae = read_json(folder / "vae" / "config.json")
        transformer = read_json(folder / "transformer" / "config.json")
        channels = 4 * vae["latent_channels"]
        check_channels(
            folder, "FLUX.1 Kontext", "transformer", transformer["in_channels"], channels
        )
        multiple = 2 * downsampling(vae["block_out_channels"])
        described = FLUX_KONTEXT.of_folder(folder, multiple=multiple)
        return described if transformer["guidance_embeds"] else described.without("guidance_scale")

    @classmethod
    def load(cls, folder: Path, spec: ModelSpec, placement: Placement) -> Self:
        """See `Editor.load`; one part after another, so that the host never holds two."""
        from diffusers import AutoencoderKL, FluxTransformer2DModel

        return cls(
            spec,
            FluxText.load(folder, placement),
            load_part(AutoencoderKL, folder / "vae", placement),
            load_denoiser(FluxTransformer2DModel, folder / "transformer", placement),
            read_json(folder / "scheduler" / "scheduler_config.json"),
        )

    def tune(self, *, channels_last: bool, compile: bool) -> None:
        """See `Editor.tune`."""
        tune_parts(self._transformer, [self._vae], channels_last, compile)

    def schedule(self, request: EditRequest) -> Schedule:
        """See `Editor.schedule`: the shift depends on the canvas."""
        height, width = request.pixels.shape[:2]
        steps = request.options.num_inference_steps
        return Schedule(
            steps,
            mu=canvas_shift(height * width // self.spec.multiple**2, self.scheduler_config),
            linear=True,
            begin=first_step(steps, request.options.strength),
        )

    def check(self, request: EditRequest) -> Sequence[str]:
        """Refuse texts that are too long, and warn of a script that T5 does not know."""
        return check_texts(request, self.spec, self._text)

    def encode(self, requests: Sequence[EditRequest]) -> list[Conditioning]:
        """See `Editor.encode`; texts are embedded one by one, and kept."""
        sources = self._sources.of_canvases(requests)
        return [self._condition(*pair) for pair in zip(requests, sources, strict=True)]

    def _condition(self, request: EditRequest, source: torch.Tensor) -> Conditioning:
        options = request.options
        texts = {"text": request.instruction, "negative": options.negative_prompt or ""}
        shared = {"image": pack(source[None])[0].to(self._transformer.dtype)}
        if "guidance_scale" in self.spec.options:
            scale = torch.tensor(options.scale("guidance_scale"), dtype=torch.float32)
            shared["guidance"] = scale.to(self.device)
        weights = branches(self.spec.guidance, options)
        rows = [{**self._text.embed(texts[branch]), **shared} for branch in weights]
        return Conditioning(
            rows,
            list(weights.values()),
            tuple(source.shape),
            source=source,
            mask=latent_mask(request, self._factor, self.device),
        )

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        inputs: Inputs,
        layout: Hashable,
    ) -> torch.Tensor:
        """See `Editor.predict`; `inputs`: text (N, T, D), pooled (N, P), image (N, h w / 4, 4 C),
        guidance (N,)."""
        dtype = self._transformer.dtype
        height, width = latents.shape[2:]
        own = pack(latents.to(dtype))
        rows, columns = height // 2, width // 2
        positions = [grid(which, rows, columns, latents.device) for which in (0, 1)]
        output = self._transformer(
            hidden_states=torch.cat([own, inputs["image"]], dim=1),
            timestep=timesteps.to(dtype) / 1000,
            guidance=inputs.get("guidance"),
            pooled_projections=inputs["pooled"],
            encoder_hidden_states=inputs["text"],
            txt_ids=positions[0].new_zeros(inputs["text"].shape[1], 3),
            img_ids=torch.cat(positions),
            return_dict=False,
        )[0]
        return unpack(output[:, : own.shape[1]], height, width).float()

    def decode(self, latents: torch.Tensor, *, float32: bool = False) -> list[np.ndarray]:
        """See `Editor.decode`."""
        config = self._vae.config
        scaled = latents / config.scaling_factor + config.shift_factor
        return decode_latents(self._vae, scaled, float32=float32)

    def _encode_images(self, pixels: np.ndarray) -> torch.Tensor:
        """(N, H, W, 3) uint8 -> (N, C, h, w) float32 in the scale of the state."""
        config = self._vae.config
        images = to_unit(pixels, self.device).to(self._vae.dtype)
        modes = self._vae.encode(images).latent_dist.mode()
        return ((modes - config.shift_factor) * config.scaling_factor).float()
