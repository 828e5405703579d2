"""The tiny folders are folders as users have them, and nothing in them is without effect."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import BUILDERS, build
from tests.tiny.edits import Edit, source
from tests.tiny.folder import save
from tests.tiny.pipelines import draw, load

SEVERAL_SOURCES = ("flux2-klein", "flux2-dev", "qwen-image-edit-plus", "qwen-image-edit-2511")
TWO_SCALES = ("instruct-pix2pix", "sdxl-instruct-pix2pix", "cosxl-edit", "dreamlite")
WITHOUT_GUIDANCE = ("flux2-klein-distilled", "dreamlite-mobile")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """These models are too small to share among threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=BUILDERS)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(family: str, tiny: Callable[[str], Path]) -> Path:
    return tiny(family)


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Any:
    return load(folder)


def edit_of(family: str) -> Edit:
    """64 x 128 px, two steps, guidance on."""
    options: dict[str, Any] = {"num_inference_steps": 2}
    if family.startswith("qwen"):
        options |= {"true_cfg_scale": 4.0, "negative_prompt": " "}
    elif family not in WITHOUT_GUIDANCE:
        options["guidance_scale"] = 4.0
    sources = [source("astronaut", 64, 128)]
    if family in SEVERAL_SOURCES:
        sources.append(source("coffee", 128, 64))
    return Edit(tuple(sources), options=options)


def variations(family: str, edit: Edit) -> dict[str, Edit]:
    """What differs -> an edit that must be another one."""
    first, *others = edit.sources
    changed = {
        "seed": replace(edit, seed=8),
        "text": replace(edit, instruction="add snow"),
        "source": replace(edit, sources=(source("chelsea", 64, 128), *others)),
    }
    if others:
        changed["second source"] = replace(edit, sources=(first, source("rocket", 128, 64)))
        changed["count of sources"] = replace(edit, sources=(first,))

    scales = {"guidance_scale", "true_cfg_scale"} & set(edit.options)
    if family in TWO_SCALES:
        scales.add("image_guidance_scale")
    for name in sorted(scales):
        changed[name] = replace(edit, options={**edit.options, name: 2.0})
    if family == "flux-kontext":
        more = {"true_cfg_scale": 2.0, "negative_prompt": "blurry"}
        changed["true_cfg_scale"] = replace(edit, options={**edit.options, **more})
    return changed


def relative_difference(left: torch.Tensor, right: torch.Tensor) -> float:
    return float((left - right).abs().max() / right.abs().max())


def test_what_an_edit_asks_for_moves_the_latents(family: str, pipeline: Any) -> None:
    edit = edit_of(family)
    latents = draw(family, pipeline, edit).latents
    for what, other in variations(family, edit).items():
        moved = relative_difference(draw(family, pipeline, other).latents, latents)
        assert moved > 1e-3, f"another {what} moves the latents by {moved:.1e}"


def test_a_folder_loaded_and_saved_again_makes_the_same_picture(
    family: str, folder: Path, pipeline: Any, tmp_path: Path
) -> None:
    drawn = draw(family, pipeline, edit_of(family))
    assert drawn.pixels.shape == (128, 64, 3)
    assert drawn.pixels.std() > 8  # not a grey one

    index = json.loads((folder / "model_index.json").read_text())
    settings = {k: v for k, v in index.items() if k[0] != "_" and not isinstance(v, list)}
    save(tmp_path, index["_class_name"], pipeline.components, **settings)
    assert json.loads((tmp_path / "model_index.json").read_text()) == index
    again = draw(family, load(tmp_path), edit_of(family))
    assert torch.equal(again.latents, drawn.latents)


def test_the_same_weights_are_built_every_time(family: str, folder: Path, tmp_path: Path) -> None:
    build(family, tmp_path)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    for path in files:
        assert (folder / path).read_bytes() == (tmp_path / path).read_bytes(), path
