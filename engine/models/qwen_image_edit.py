"""Qwen-Image-Edit (Qwen team 2025), -2509 and -2511: a transformer over text, noisy and sources'
tokens, whose text encoder sees the sources too."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import torch

from engine.catalogue import QWEN_IMAGE_EDIT, QWEN_IMAGE_EDIT_2511
from engine.edit import EditRequest, digest_of
from engine.guidance import branches, weigh
from engine.models import Conditioning, Inputs, Placement
from engine.models.parts import check_channels, load_denoiser, load_part, tune_parts
from engine.models.pictures import (
    SourceLatents,
    in_float32,
    latent_mask,
    to_pixels,
    to_unit,
)
from engine.models.qwen_text import QwenText, as_rows, shown_size
from engine.models.texts import check_texts
from engine.models.tokens import canvas_shift, first_step, pack, unpack
from engine.registry import read_json
from engine.sampling import Schedule
from engine.spec import ModelSpec

if TYPE_CHECKING:  # diffusers takes 10 s of a processor to import: only `load` pays it
    from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel

SOURCE_BYTES = 64 << 20  # of kept latents: 64 sources of a megapixel in float32
PLUS = "QwenImageEditPlusPipeline"  # its models edit from several sources

Sizes = tuple[tuple[int, int], ...]  # (h, w) in tokens of each source


class QwenImageEdit:
    """Guides away from a negative prompt, and each token keeps the length it had without."""

    ragged = frozenset({"text", "mask"})
    denoiser_part = "transformer"
    lora_loader = "QwenImageLoraLoaderMixin"

    def __init__(
        self,
        spec: ModelSpec,
        text: QwenText,
        vae: AutoencoderKLQwenImage,
        transformer: QwenImageTransformer2DModel,
        scheduler_config: dict[str, Any],
    ) -> None:
        self.spec = spec
        self.device = transformer.device
        self.scheduler_config = scheduler_config
        self.example = Schedule(4, mu=canvas_shift(4096, scheduler_config), linear=True)
        self._text = text
        self._vae = vae
        self._transformer = self.denoiser = transformer
        self._factor: int = vae.spatial_compression_ratio  # px that a latent stands for
        self._sources = SourceLatents(self._encode_images, SOURCE_BYTES)

    @classmethod
    def describe(cls, folder: Path) -> ModelSpec:
        """See `Editor.describe`; the pipeline's class tells how many sources there may be."""
        vae = read_json(folder / "vae" / "config.json")
        transformer = read_json(folder / "transformer" / "config.json")
        channels = 4 * vae["z_dim"]
        check_channels(
            folder, "Qwen-Image-Edit", "transformer", transformer["in_channels"], channels
        )
        known = QWEN_IMAGE_EDIT_2511 if is_plus(folder) else QWEN_IMAGE_EDIT
        return known.of_folder(folder)

    @classmethod
    def load(cls, folder: Path, spec: ModelSpec, placement: Placement) -> Self:
        """See `Editor.load`; one part after another, so that the host never holds two."""
        from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel
        from transformers import Qwen2_5_VLForConditionalGeneration

        plus = is_plus(folder)
        return cls(
            spec,
            QwenText.load(
                Qwen2_5_VLForConditionalGeneration,
                folder,
                placement,
                numbered=plus,
                shown_at=shown_size if plus else None,
            ),
            load_part(AutoencoderKLQwenImage, folder / "vae", placement),
            load_denoiser(QwenImageTransformer2DModel, folder / "transformer", placement),
            read_json(folder / "scheduler" / "scheduler_config.json"),
        )

    def tune(self, *, channels_last: bool, compile: bool) -> None:
        """See `Editor.tune`; the VAE takes a picture as a film: no channels-last order has both."""
        tune_parts(self._transformer, [], channels_last, compile)

    def schedule(self, request: EditRequest) -> Schedule:
        """See `Editor.schedule`: the shift depends on the canvas."""
        height, width = request.pixels.shape[:2]
        steps = request.options.num_inference_steps
        return Schedule(
            steps,
            mu=canvas_shift(height * width // (2 * self._factor) ** 2, self.scheduler_config),
            linear=True,
            begin=first_step(steps, request.options.strength),
        )

    def check(self, request: EditRequest) -> Sequence[str]:
        """Refuse texts that are too long, and warn of a script that Qwen2.5-VL does not know."""
        return check_texts(request, self.spec, self._text)

    def encode(self, requests: Sequence[EditRequest]) -> list[Conditioning]:
        """See `Editor.encode`; texts are embedded one by one, and kept."""
        return [self._condition(request) for request in requests]

    def _condition(self, request: EditRequest) -> Conditioning:
        pictures = [request.pixels, *request.references]
        digests = [request.digest or digest_of(request.pixels)]
        digests += [digest_of(reference) for reference in request.references]
        sources = [
            self._sources.of([picture], [digest])[0]
            for picture, digest in zip(pictures, digests, strict=True)
        ]
        options = request.options
        texts = {"text": request.instruction, "negative": options.negative_prompt or ""}
        weights = branches(self.spec.guidance, options)
        image = torch.cat([pack(source[None])[0] for source in sources])
        embedded = [self._text.embed(texts[branch], pictures, digests) for branch in weights]
        shown = image.to(self._transformer.dtype)
        return Conditioning(
            [{**row, "image": shown} for row in as_rows(embedded)],
            list(weights.values()),
            tuple(sources[0].shape),
            layout=tuple((source.shape[1] // 2, source.shape[2] // 2) for source in sources),
            source=sources[0],
            mask=latent_mask(request, self._factor, self.device),
        )

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        inputs: Inputs,
        layout: Hashable,
    ) -> torch.Tensor:
        """See `Editor.predict`; `inputs`: text (N, T, D) and mask (N, T), image (N, L, 4 C), the L
        tokens of all sources; `layout`: `Sizes`."""
        dtype = self._transformer.dtype
        height, width = latents.shape[2:]
        own = pack(latents.to(dtype))
        sizes = ((height // 2, width // 2), *cast(Sizes, layout))
        output = self._transformer(
            hidden_states=torch.cat([own, inputs["image"]], dim=1),
            timestep=timesteps.to(dtype) / 1000,
            encoder_hidden_states=inputs["text"],
            encoder_hidden_states_mask=inputs["mask"],
            img_shapes=[[(1, *size) for size in sizes]] * len(latents),
            return_dict=False,
        )[0]
        return unpack(output[:, : own.shape[1]], height, width).float()

    def combine(self, predicted: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """See `Combining.combine`: each token is guided, and keeps the length of its row 0."""
        height, width = predicted.shape[3:]
        first, guided = pack(predicted[:, 0]), pack(weigh(predicted, weights))
        length, grown = first.norm(dim=-1, keepdim=True), guided.norm(dim=-1, keepdim=True)
        return unpack(guided * (length / grown), height, width)

    def decode(self, latents: torch.Tensor, *, float32: bool = False) -> list[np.ndarray]:
        """See `Editor.decode`."""
        with in_float32(self._vae, float32):
            mean, deviation = self._statistics()
            film = (latents * deviation + mean).to(self._vae.dtype)[:, :, None]
            return to_pixels(self._vae.decode(film, return_dict=False)[0][:, :, 0])

    def _encode_images(self, pixels: np.ndarray) -> torch.Tensor:
        """(N, H, W, 3) uint8 -> (N, C, h, w) float32 in the scale of the state."""
        film = to_unit(pixels, self.device).to(self._vae.dtype)[:, :, None]
        modes = self._vae.encode(film).latent_dist.mode()[:, :, 0].float()
        mean, deviation = self._statistics()
        return (modes - mean) / deviation

    def _statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation of the latents' channels, (1, C, 1, 1) float32 each."""
        config = self._vae.config
        both = torch.tensor([config.latents_mean, config.latents_std], device=self.device)
        mean, deviation = both.float()[:, None, :, None, None]
        return mean, deviation


def is_plus(folder: Path) -> bool:
    """Tell a model of several sources from the first one, by its folder."""
    return read_json(folder / "model_index.json").get("_class_name") == PLUS
