"""diffusers' own pipeline of a folder: loaded as a user would load it, called for one edit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import diffusers
import numpy as np
import torch
from transformers import AutoTokenizer

from tests.tiny import module_of
from tests.tiny.edits import Edit
from tests.tiny.processors import Qwen3Processor, QwenVLProcessor

# Classes that transformers cannot load without torchvision -> what stands in for them. Of
# PixtralProcessor FLUX.2 uses the chat template alone, which is the tokenizer's.
STAND_INS = {
    "Qwen2VLProcessor": QwenVLProcessor.of_folder,
    "Qwen3VLProcessor": Qwen3Processor.of_folder,
    "PixtralProcessor": AutoTokenizer.from_pretrained,
}


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a pipeline made: `latents` as its VAE decodes them, `pixels` (H, W, 3) uint8."""

    latents: torch.Tensor
    pixels: np.ndarray


def load(folder: Path, pipeline: str | None = None) -> Any:
    """The pipeline that the folder names, or another class over the same parts; float32."""
    index = json.loads((folder / "model_index.json").read_text())
    stand_ins = {
        name: STAND_INS[entry[1]](folder / name)
        for name, entry in index.items()
        if isinstance(entry, list) and entry[1] in STAND_INS
    }
    loaded = getattr(diffusers, pipeline or index["_class_name"]).from_pretrained(
        folder,
        dtype=torch.float32,
        local_files_only=True,
        use_safetensors=True,
        **dict.fromkeys(stand_ins),
    )
    loaded.register_modules(**stand_ins)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def draw(family: str, pipeline: Any, edit: Edit) -> Drawn:
    """The edit as `pipeline`, of a folder of `family`, makes it."""
    module = module_of(family)
    pipeline = getattr(module, "pipeline_of", lambda loaded, _: loaded)(pipeline, edit)
    patched = getattr(module, "patched", lambda *_: nullcontext())
    with patched(pipeline, edit), decoded_latents(type(pipeline.vae)) as latents:
        made = pipeline(
            prompt=edit.instruction,
            generator=edit.generator,
            **edit.options,
            **module.arguments(edit),
        )
    return Drawn(latents[-1], np.asarray(made.images[0]))


@contextmanager
def decoded_latents(vae: type[Any]) -> Iterator[list[torch.Tensor]]:
    """A list that receives what VAEs of this class decode."""
    seen: list[torch.Tensor] = []
    decode = vae.decode

    def watched(self: Any, z: torch.Tensor, *arguments: Any, **settings: Any) -> Any:
        seen.append(z.detach().clone())
        return decode(self, z, *arguments, **settings)

    with mock.patch.object(vae, "decode", watched):
        yield seen
