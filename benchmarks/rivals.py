"""The two sides of a comparison, each a way to run the same requests on the same weights."""

from __future__ import annotations

import json
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image

from benchmarks.random_sd15 import RANDOM_SD15, SCHEDULER, random_parts
from engine import EditActor, EditRequest, EditResult, EngineConfig
from engine.registry import find_model
from engine.spec import ModelSpec
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


@dataclass(frozen=True, slots=True)
class Edit:
    """What one call of a pipeline takes; `steps`, `text` and `scale`: its step count, guidance and
    image guidance, of which a call has one, as of the image's size."""

    instruction: str
    image: Image.Image
    seed: int
    steps: int
    text: float
    scale: float

    @property
    def group(self) -> tuple[int, float, float, tuple[int, int]]:
        return self.steps, self.text, self.scale, self.image.size


class Diffusers:
    """diffusers' own pipeline. It batches what has equal parameters, which is all that it can."""

    def __init__(
        self,
        spec: ModelSpec,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
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
        calls = self._calls([_edit_of(request) for request in requests])
        for call in calls:
            self._call([edit for _, edit in call])
        return sum(call[0][1].steps for call in calls)

    def edit(self, edits: Sequence[Edit]) -> list[Image.Image]:
        """The edited images, in order."""
        images: dict[int, Image.Image] = {}
        for call in self._calls(edits):
            edited = self._call([edit for _, edit in call])
            images |= zip((i for i, _ in call), edited, strict=True)
        return [images[i] for i in range(len(edits))]

    def close(self) -> None:
        del self._pipeline

    def _calls(self, edits: Sequence[Edit]) -> list[list[tuple[int, Edit]]]:
        """(place, edit) of those that one call takes."""
        groups: dict[Any, list[tuple[int, Edit]]] = defaultdict(list)
        for i, edit in enumerate(edits):
            groups[edit.group].append((i, edit))
        most = self._max_batch_size
        return [
            g[start : start + most] for g in groups.values() for start in range(0, len(g), most)
        ]

    def _call(self, edits: list[Edit]) -> list[Image.Image]:
        images: list[Image.Image] = self._pipeline(
            [edit.instruction for edit in edits],
            image=[edit.image for edit in edits],
            num_inference_steps=edits[0].steps,
            guidance_scale=edits[0].text,
            image_guidance_scale=edits[0].scale,
            generator=[torch.Generator("cpu").manual_seed(edit.seed) for edit in edits],
        ).images
        return images


def _edit_of(request: EditRequest) -> Edit:
    options = request.options
    return Edit(
        request.instruction,
        Image.fromarray(request.pixels),
        options.seed,
        options.num_inference_steps,
        options.scale("guidance_scale"),
        options.scale("image_guidance_scale"),
    )


def _pipeline(
    spec: ModelSpec, device: torch.device, dtype: torch.dtype
) -> StableDiffusionInstructPix2PixPipeline:
    folder, _ = find_weights(spec)
    if spec is not RANDOM_SD15:
        return StableDiffusionInstructPix2PixPipeline.from_pretrained(
            folder, safety_checker=None, dtype=dtype
        ).to(device)
    scheduler = getattr(diffusers, str(SCHEDULER["_class_name"])).from_config(
        json.loads(json.dumps(SCHEDULER))
    )
    return StableDiffusionInstructPix2PixPipeline(
        **random_parts(folder, device, dtype),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
