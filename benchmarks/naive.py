"""The deployment that people write today, to be beaten: a diffusers pipeline in `@serve.batch`.

One pipeline call takes one step count, one guidance and one geometry, so a batch is split into
groups of equal parameters, and each group is a call.
"""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from PIL import Image
from ray import serve
from starlette.requests import Request

MAX_BATCH_SIZE = 8
BATCH_WAIT_S = 0.05


@dataclass(frozen=True, slots=True)
class Edit:
    """`group`: what a pipeline call has one of: steps, guidance, image guidance, (width, height)
    in px."""

    instruction: str
    image: Image.Image
    seed: int
    group: tuple[int, float, float, tuple[int, int]]


@serve.deployment(max_ongoing_requests=64)
class NaiveEditor:
    """`folder`: weights in the diffusers layout; `threads`: of torch."""

    def __init__(self, folder: str, threads: int) -> None:
        import torch
        from diffusers import StableDiffusionInstructPix2PixPipeline

        torch.set_num_threads(threads)
        self._torch = torch
        self._pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(
            folder, safety_checker=None, dtype=torch.float32
        )
        self._pipeline.set_progress_bar_config(disable=True)

    async def __call__(self, request: Request) -> dict[str, Any]:
        form = await request.form()
        width, _, height = str(form["size"]).partition("x")
        size = (int(width), int(height))
        upload: Any = form["image"]
        image = Image.open(io.BytesIO(await upload.read())).convert("RGB").resize(size)
        group = (
            int(str(form["num_inference_steps"])),
            float(str(form["guidance_scale"])),
            float(str(form["image_guidance_scale"])),
            size,
        )
        edit = Edit(str(form["prompt"]), image, int(str(form["seed"])), group)
        return {"data": [{"b64_json": await self._edit(edit)}]}

    @serve.batch(max_batch_size=MAX_BATCH_SIZE, batch_wait_timeout_s=BATCH_WAIT_S)
    async def _edit(self, edits: list[Edit]) -> list[str]:
        groups: dict[Any, list[int]] = defaultdict(list)
        for i, edit in enumerate(edits):
            groups[edit.group].append(i)
        files = [""] * len(edits)
        for group, members in groups.items():
            for i, image in zip(
                members, self._call(group, [edits[i] for i in members]), strict=True
            ):
                files[i] = image
        return files

    def _call(self, group: tuple[Any, ...], edits: list[Edit]) -> list[str]:
        steps, text, image, _ = group
        images = self._pipeline(
            [edit.instruction for edit in edits],
            image=[edit.image for edit in edits],
            num_inference_steps=steps,
            guidance_scale=text,
            image_guidance_scale=image,
            generator=[self._torch.Generator("cpu").manual_seed(edit.seed) for edit in edits],
        ).images
        return [_png(image) for image in images]


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
