"""FLUX.2 dev and klein (Black Forest Labs 2025, 2026): a transformer over text, noisy and sources'
tokens."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import torch
from torch.nn.functional import pad

from engine.catalogue import FLUX2_DEV, FLUX2_KLEIN, FLUX2_KLEIN_BASE
from engine.edit import EditRequest, digest_of
from engine.guidance import branches
from engine.models import Conditioning, Inputs, Placement
from engine.models.flux2_text import Flux2Text, MistralText, Qwen3Text
from engine.models.parts import check_channels, downsampling, load_denoiser, load_part, tune_parts
from engine.models.pictures import (
    SourceLatents,
    decode_latents,
    latent_mask,
    to_unit,
)
from engine.models.texts import check_texts
from engine.models.tokens import first_step, from_grid, grid, pack, to_grid, unpack
from engine.registry import read_json
from engine.sampling import Schedule
from engine.spec import ModelSpec

if TYPE_CHECKING:  # diffusers takes 10 s of a processor to import: only `load` pays it
    from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel

SOURCE_BYTES = 64 << 20  # of kept latents: 32 sources of a megapixel in float32
SOURCE_STEP = 10  # between the pictures on the first axis of positions; the noise stands at 0

Sizes = tuple[tuple[int, int], ...]  # (h, w) of each source's latents


class Flux2:
    """The state are patches of 2 x 2 latents. Guidance is an input of dev; klein's base guides away
    from an empty text, and klein has none."""

    ragged: frozenset[str] = frozenset()
    denoiser_part = "transformer"
    lora_loader = "Flux2LoraLoaderMixin"

    def __init__(
        self,
        spec: ModelSpec,
        text: Flux2Text,
        vae: AutoencoderKLFlux2,
        transformer: Flux2Transformer2DModel,
        scheduler_config: dict[str, Any],
    ) -> None:
        self.spec = spec
        self.device = transformer.device
        self.scheduler_config = scheduler_config
        self.example = Schedule(4, mu=canvas_shift(4096, 4), linear=True)
        self._text = text
        self._vae = vae
        self._transformer = self.denoiser = transformer
        self._sources = SourceLatents(self._encode_images, SOURCE_BYTES)

    @classmethod
    def describe(cls, folder: Path) -> ModelSpec:
        """See `Editor.describe`; a side is a multiple of VAE factor x patch."""
        vae = read_json(folder / "vae" / "config.json")
        transformer = read_json(folder / "transformer" / "config.json")
        channels = 4 * vae["latent_channels"]
        check_channels(folder, "FLUX.2", "transformer", transformer["in_channels"], channels)
        multiple = 2 * downsampling(vae["block_out_channels"])
        return _kind(folder).of_folder(folder, multiple=multiple)

    @classmethod
    def load(cls, folder: Path, spec: ModelSpec, placement: Placement) -> Self:
        """See `Editor.load`; one part after another, so that the host never holds two."""
        from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel

        return cls(
            spec,
            (MistralText if _kind(folder) is FLUX2_DEV else Qwen3Text).load(folder, placement),
            load_part(AutoencoderKLFlux2, folder / "vae", placement),
            load_denoiser(Flux2Transformer2DModel, folder / "transformer", placement),
            read_json(folder / "scheduler" / "scheduler_config.json"),
        )

    def tune(self, *, channels_last: bool, compile: bool) -> None:
        """See `Editor.tune`."""
        tune_parts(self._transformer, [self._vae], channels_last, compile)

    def schedule(self, request: EditRequest) -> Schedule:
        """See `Editor.schedule`: the shift depends on canvas and steps."""
        height, width = request.pixels.shape[:2]
        steps = request.options.num_inference_steps
        return Schedule(
            steps,
            mu=canvas_shift(height * width // self.spec.multiple**2, steps),
            linear=True,
            begin=first_step(steps, request.options.strength),
        )

    def check(self, request: EditRequest) -> Sequence[str]:
        """Refuse an instruction that is too long, and warn of a script that it does not know."""
        return check_texts(request, self.spec, self._text)

    def encode(self, requests: Sequence[EditRequest]) -> list[Conditioning]:
        """See `Editor.encode`; texts are embedded one by one, and kept."""
        firsts = self._sources.of_canvases(requests)
        others = [
            self._sources.of(pictures, [digest_of(picture) for picture in pictures])
            for pictures in zip(*(r.references for r in requests), strict=True)
        ]
        return [self._condition(*entry) for entry in zip(requests, firsts, *others, strict=True)]

    def _condition(self, request: EditRequest, *sources: torch.Tensor) -> Conditioning:
        tokens = torch.cat([from_grid(source) for source in sources])
        texts = {"text": request.instruction, "negative": ""}
        weights = branches(self.spec.guidance, request.options)
        shared = {"image": tokens.to(self._transformer.dtype)}
        if self._transformer.config.guidance_embeds:
            scale = torch.tensor(request.options.scale("guidance_scale"), dtype=torch.float32)
            shared["guidance"] = scale.to(self.device)
        return Conditioning(
            [{"text": self._text.embed(texts[branch]), **shared} for branch in weights],
            list(weights.values()),
            tuple(sources[0].shape),
            layout=tuple((source.shape[1], source.shape[2]) for source in sources),
            source=sources[0],
            mask=latent_mask(request, self.spec.multiple, self.device),
        )

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        inputs: Inputs,
        layout: Hashable,
    ) -> torch.Tensor:
        """See `Editor.predict`; `inputs`: text (N, T, D), image (N, L, C), the L tokens of all
        sources, guidance (N,); `layout`: `Sizes`."""
        dtype = self._transformer.dtype
        height, width = latents.shape[2:]
        own = from_grid(latents.to(dtype))
        sizes = ((height, width), *cast(Sizes, layout))
        pictures = [grid(SOURCE_STEP * k, *s, latents.device) for k, s in enumerate(sizes)]
        words = torch.arange(inputs["text"].shape[1], device=latents.device)
        output = self._transformer(
            hidden_states=torch.cat([own, inputs["image"]], dim=1),
            timestep=timesteps.to(dtype) / 1000,
            guidance=inputs.get("guidance"),
            encoder_hidden_states=inputs["text"],
            txt_ids=pad(words[:, None], (3, 0)),
            img_ids=pad(torch.cat(pictures), (0, 1)),
            return_dict=False,
        )[0]
        return to_grid(output[:, : own.shape[1]], height, width).float()

    def decode(self, latents: torch.Tensor, *, float32: bool = False) -> list[np.ndarray]:
        """See `Editor.decode`."""
        height, width = latents.shape[2:]
        mean, deviation = self._statistics()
        patches = from_grid(latents * deviation + mean)
        unpacked = unpack(patches, 2 * height, 2 * width)
        return decode_latents(self._vae, unpacked, float32=float32)

    def _encode_images(self, pixels: np.ndarray) -> torch.Tensor:
        """(N, H, W, 3) uint8 -> (N, C, h, w) float32 in the scale of the state."""
        images = to_unit(pixels, self.device).to(self._vae.dtype)
        modes = self._vae.encode(images).latent_dist.mode().float()
        mean, deviation = self._statistics()
        height, width = modes.shape[2:]
        return (to_grid(pack(modes), height // 2, width // 2) - mean) / deviation

    def _statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation of the patches' channels, (1, C, 1, 1) float32 each."""
        norm = self._vae.bn
        variance = norm.running_var.float() + self._vae.config.batch_norm_eps
        return norm.running_mean.float().view(1, -1, 1, 1), variance.sqrt().view(1, -1, 1, 1)


def _kind(folder: Path) -> ModelSpec:
    """Tell dev, klein and its base from each other, as diffusers does."""
    index = read_json(folder / "model_index.json")
    if index.get("_class_name") == "Flux2Pipeline":
        return FLUX2_DEV
    return FLUX2_KLEIN if index.get("is_distilled", False) else FLUX2_KLEIN_BASE


def canvas_shift(tokens: int, num_inference_steps: int) -> float:
    """Return `mu`, the shift of the noise levels for a canvas of so many tokens in so many steps.

    Two lines over the tokens, at 200 steps and at 10, and between them one over the steps; a canvas
    beyond 4,300 tokens has that of 200 (diffusers' `compute_empirical_mu`, with its constants).
    """
    many = 0.00016927 * tokens + 0.45666666
    if tokens > 4300:
        return many
    few = 8.73809524e-05 * tokens + 1.89833333
    slope = (many - few) / 190
    return slope * num_inference_steps + (many - 200 * slope)
