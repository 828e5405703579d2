"""The two sides of a comparison, each a way to run the same requests on the same weights."""

from __future__ import annotations

import json
import warnings
from collections import defaultdict
from typing import Any

import diffusers
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image

from benchmarks.random_sd15 import RANDOM_SD15, SCHEDULER, random_parts
from engine import EditActor, EditRequest, EditResult, EngineConfig
from engine.registry import ModelSpec, find_model
from engine.weights import find_weights


def spec_of(model: str) -> ModelSpec:
    """A registered model, a folder, or `random-sd15`."""
    return RANDOM_SD15 if model == RANDOM_SD15.name else find_model(model)


class Rayedit:
    """One `EditActor` with these settings."""

    def __init__(self, spec: ModelSpec, **settings: Any) -> None:
        self.actor = EditActor(EngineConfig(**settings), spec)
        self.threads = self.actor.config.threads

    def run(self, requests: list[EditRequest]) -> int:
        """Edits them; returns the denoising steps that it took. An edit that fails ends the run."""
        before = self.actor.counters.steps
        if not all(isinstance(o, EditResult) for o in self.actor.edit_batch(requests)):
            raise SystemExit("an edit failed: the times mean nothing")
        return self.actor.counters.steps - before

    def close(self) -> None:
        self.actor.close()


class Diffusers:
    """diffusers' own pipeline. It batches what has equal parameters, which is all that it can."""

    def __init__(
        self,
        spec: ModelSpec,
        device: str,
        dtype: torch.dtype,
        *,
        max_batch_size: int = 256,
        compiled: bool = False,
    ) -> None:
        self._max_batch_size = max_batch_size
        warnings.simplefilter("ignore")
        self._pipeline = _pipeline(spec, torch.device(device), dtype)
        self._pipeline.set_progress_bar_config(disable=True)
        if compiled:
            self._pipeline.unet = torch.compile(self._pipeline.unet)

    def run(self, requests: list[EditRequest]) -> int:
        """Edits them; returns the denoising steps that it took."""
        groups: dict[Any, list[EditRequest]] = defaultdict(list)
        for request in requests:
            options = request.options
            key = (
                options.num_inference_steps,
                options.guidance_scale,
                options.image_guidance_scale,
            )
            groups[key].append(request)
        calls = [
            (key, group[start : start + self._max_batch_size])
            for key, group in groups.items()
            for start in range(0, len(group), self._max_batch_size)
        ]
        for (steps, text, image), group in calls:
            self._pipeline(
                [request.instruction for request in group],
                image=[Image.fromarray(request.pixels) for request in group],
                num_inference_steps=steps,
                guidance_scale=text,
                image_guidance_scale=image,
                generator=[
                    torch.Generator("cpu").manual_seed(request.options.seed or 0)
                    for request in group
                ],
            )
        return sum(steps for (steps, _, _), _ in calls)

    def close(self) -> None:
        del self._pipeline


def _pipeline(
    spec: ModelSpec, device: torch.device, dtype: torch.dtype
) -> StableDiffusionInstructPix2PixPipeline:
    folder, _ = find_weights(spec)
    if spec is not RANDOM_SD15:
        return StableDiffusionInstructPix2PixPipeline.from_pretrained(
            folder, safety_checker=None, dtype=dtype
        ).to(device)
    scheduler = getattr(diffusers, SCHEDULER["_class_name"]).from_config(
        json.loads(json.dumps(SCHEDULER))
    )
    return StableDiffusionInstructPix2PixPipeline(
        **random_parts(folder, device, dtype),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
