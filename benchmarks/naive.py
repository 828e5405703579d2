"""The deployment that people write today, to be beaten: a diffusers pipeline in `@serve.batch`.

One pipeline call takes one step count, one guidance and one geometry, so a batch is split into
groups of equal parameters, and each group is a call.
"""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image
from ray import serve
from starlette.requests import Request

from benchmarks.rivals import Diffusers, Edit
from engine.spec import ModelSpec

MAX_BATCH_SIZE = 8
BATCH_WAIT_S = 0.05


@serve.deployment(max_ongoing_requests=64)
class NaiveEditor:
    """`threads`: of torch."""

    def __init__(self, spec: ModelSpec, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._pipeline = Diffusers(spec)

    async def __call__(self, request: Request) -> dict[str, Any]:
        form = await request.form()
        width, _, height = str(form["size"]).partition("x")
        upload: Any = form["image"]
        image = Image.open(io.BytesIO(await upload.read())).convert("RGB")
        edit = Edit(
            str(form["prompt"]),
            image.resize((int(width), int(height))),
            int(str(form["seed"])),
            int(str(form["num_inference_steps"])),
            float(str(form["guidance_scale"])),
            float(str(form["image_guidance_scale"])),
        )
        return {"data": [{"b64_json": await self._edit(edit)}]}

    @serve.batch(max_batch_size=MAX_BATCH_SIZE, batch_wait_timeout_s=BATCH_WAIT_S)
    async def _edit(self, edits: list[Edit]) -> list[str]:
        return [_png(image) for image in self._pipeline.edit(edits)]


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
