"""Tiny diffusers folders of random weights, one for each family that rayedit edits with.

`build("flux-kontext", folder)` writes what a user would have downloaded: `model_index.json`, a
subfolder for each part, configurations with a real model's names and switches, weights small enough
for a CPU. No hub is asked. `pipelines` loads and calls diffusers' own pipeline of it.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

# Family -> the function that writes its folder, imported when it is asked for.
BUILDERS: dict[str, str] = {
    "instruct-pix2pix": "instruct_pix2pix:build",
    "flux-kontext": "flux_kontext:build",
    "flux2-klein": "flux2:build_klein",
    "flux2-klein-distilled": "flux2:build_distilled_klein",
    "flux2-dev": "flux2:build_dev",
    "qwen-image-edit": "qwen_image_edit:build",
    "qwen-image-edit-plus": "qwen_image_edit:build_plus",
    "qwen-image-edit-2511": "qwen_image_edit:build_2511",
    "sdxl-instruct-pix2pix": "sdxl_instruct_pix2pix:build",
    "cosxl-edit": "sdxl_instruct_pix2pix:build_cosxl",
    "dreamlite": "dreamlite:build",
    "dreamlite-mobile": "dreamlite:build_mobile",
    "sd15-canny": "sd15_canny:build",
}


def module_of(family: str) -> ModuleType:
    """The file of `family` in this package."""
    return import_module(f"tests.tiny.{BUILDERS[family].partition(':')[0]}")


def build(family: str, folder: Path) -> Path:
    """Write the folder of `family` and return it; the same weights every time."""
    _, _, function = BUILDERS[family].partition(":")
    getattr(module_of(family), function)(folder)
    return folder
