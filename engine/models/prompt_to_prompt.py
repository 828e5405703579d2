"""Prompt-to-Prompt on Stable Diffusion 1.x: pictures of several captions from one noise."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import torch

from engine.config import EngineConfig
from engine.edit import EditRequest
from engine.errors import ModelError, OptionInvalid
from engine.guidance import branches
from engine.models import Conditioning, Inputs, Placement
from engine.models.clip_text import ClipText
from engine.models.parts import downsampling, load_denoiser, load_part, tune_parts
from engine.models.pictures import decode_latents
from engine.models.shared_attention import SharedAttention
from engine.models.texts import check_texts
from engine.pair import P2PAttention, PairRequest, find_pair_model
from engine.registry import read_json
from engine.sampling import Schedule
from engine.scheduler_tables import SamplerTables
from engine.spec import ModelSpec

if TYPE_CHECKING:  # diffusers takes 10 s of a processor to import: only `load` pays it
    from diffusers import AutoencoderKL, UNet2DConditionModel


class PromptToPrompt:
    """A UNet over each picture of a sample in turn: the first leads, the others follow it.

    The state of a pair holds the latents of both side by side in its channels. A plain
    `EditRequest` is one picture, as `StableDiffusionPipeline` paints it. Each picture has a call of
    the UNet of its own, over the branches of all samples: so a picture that shares nothing, or
    follows its own caption, has the bits of one that is painted alone.
    """

    example = Schedule(4)
    ragged: frozenset[str] = frozenset()

    def __init__(
        self,
        spec: ModelSpec,
        text: ClipText,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        scheduler_config: dict[str, Any],
    ) -> None:
        self.spec = spec
        self.device = unet.device
        self.scheduler_config = scheduler_config
        self._text = text
        self._vae = vae
        self._unet = unet
        self._attention = SharedAttention(unet)
        self._tables = SamplerTables(scheduler_config, self.example)
        self._channels: int = vae.config.latent_channels
        self._factor = downsampling(vae.config.block_out_channels)  # px that a latent stands for

    @classmethod
    def describe(cls, folder: Path) -> ModelSpec:
        """See `Editor.describe`."""
        return find_pair_model(EngineConfig(model=str(folder)))

    @classmethod
    def load(cls, folder: Path, spec: ModelSpec, placement: Placement) -> Self:
        """See `Editor.load`."""
        from diffusers import AutoencoderKL, UNet2DConditionModel

        return cls(
            spec,
            ClipText.load(folder, placement),
            load_part(AutoencoderKL, folder / "vae", placement),
            load_denoiser(UNet2DConditionModel, folder / "unet", placement),
            read_json(folder / "scheduler" / "scheduler_config.json"),
        )

    def tune(self, *, channels_last: bool, compile: bool) -> None:
        """See `Editor.tune`; raises `ModelError` for compiled blocks, which go past hooks."""
        if compile:
            raise ModelError(
                "pairs share their attention by hooks, which compiled blocks go past: leave "
                "compile out"
            )
        tune_parts(self._unet, [self._unet, self._vae], channels_last, compile)

    def schedule(self, request: EditRequest) -> Schedule:
        """See `Editor.schedule`: the levels depend on the steps alone."""
        return Schedule(request.options.num_inference_steps)

    def check(self, request: EditRequest) -> Sequence[str]:
        """Refuse a text that CLIP would cut, a share that is none, and what needs a source."""
        options = request.options
        if request.compares_source or options.num_images > 1:
            raise OptionInvalid(
                "mask, detail, preserve, return_mask, measures, repair and num_images: pictures of "
                "captions have no source, and a pair is one; leave them out"
            )
        if isinstance(request, PairRequest):
            if not 0 <= request.p2p_threshold <= 1:
                raise OptionInvalid(
                    f"p2p_threshold {request.p2p_threshold} is not from 0 to 1: it is a share of "
                    "the steps",
                    param="p2p_threshold",
                )
            self._text.check(request.edited_caption, self.spec.name, param="edited_caption")
        return check_texts(request, self.spec, self._text)

    def encode(self, requests: Sequence[EditRequest]) -> list[Conditioning]:
        """See `Editor.encode`."""
        return [self._condition(request) for request in requests]

    def _condition(self, request: EditRequest) -> Conditioning:
        options = request.options
        pair = request if isinstance(request, PairRequest) else None
        captions = [request.instruction, *([pair.edited_caption] if pair else [])]
        texts = {"text": captions, "negative": [options.negative_prompt or ""] * len(captions)}
        last = math.inf if pair is None else self._last_shared(pair)
        last_shared = torch.tensor(last, dtype=torch.float32, device=self.device)
        weights = branches(self.spec.guidance, options)
        rows = [
            {
                "texts": torch.stack([self._text.embed(text) for text in texts[branch]]),
                "last_shared": last_shared,
            }
            for branch in weights
        ]
        height, width = (side // self._factor for side in request.pixels.shape[:2])
        return Conditioning(
            rows,
            list(weights.values()),
            (self._channels, height, width),
            layout=pair.attention if pair else (),
            pictures=len(captions),
        )

    def _last_shared(self, request: PairRequest) -> float:
        """The timestep down to which the attention is shared; infinity where it never is.

        The reference's rule over its K steps: while `p2p_threshold` > i / (K - 1).
        """
        table = self._tables.table(request.options.scheduler, self.schedule(request))
        times = table.timesteps.tolist()
        most = max(len(times) - 1, 1)
        shared = [t for i, t in enumerate(times) if request.p2p_threshold > i / most]
        return min(shared, default=math.inf)

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        inputs: Inputs,
        layout: Hashable,
    ) -> torch.Tensor:
        """See `Editor.predict`; `inputs`: texts (N, P, T, D), last_shared (N,). The latents are
        (N, P C, h, w)."""
        pictures = latents.to(self._unet.dtype).split(self._channels, dim=1)
        texts = inputs["texts"].unbind(1)
        if len(pictures) == 1:
            return self._call(pictures[0], timesteps, texts[0])
        rows = timesteps >= inputs["last_shared"]
        with self._attention.shared(cast(P2PAttention, layout), rows):
            pairs = zip(pictures, texts, strict=True)
            outputs = [self._call(picture, timesteps, text) for picture, text in pairs]
        return torch.cat(outputs, dim=1)

    def _call(
        self, picture: torch.Tensor, timesteps: torch.Tensor, text: torch.Tensor
    ) -> torch.Tensor:
        output = self._unet(
            picture.contiguous(),
            timesteps,
            encoder_hidden_states=text.contiguous(),
            return_dict=False,
        )[0]
        return output.float()

    def decode(self, latents: torch.Tensor, *, float32: bool = False) -> list[np.ndarray]:
        """See `Editor.decode`; the P pictures of a sample are beside each other, (H, P W, 3)."""
        scaled = latents / self._vae.config.scaling_factor
        painted = [
            decode_latents(self._vae, picture.contiguous(), float32=float32)
            for picture in scaled.split(self._channels, dim=1)
        ]
        return [np.concatenate(pictures, axis=1) for pictures in zip(*painted, strict=True)]
