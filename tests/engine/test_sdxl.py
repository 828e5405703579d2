"""InstructPix2Pix on SDXL: what it refuses, its canvas, and its VAE in half precision."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.catalogue import SDXL_INSTRUCT_PIX2PIX
from engine.errors import InstructionTooLong, ModelError
from engine.geometry import plan_geometry
from engine.models import Placement
from engine.models.sdxl_instruct_pix2pix import SdxlInstructPix2Pix
from engine.options import EditOptions
from engine.registry import find_model
from tests.engine.families import FAMILIES, Twins, edits_of

SDXL = next(family for family in FAMILIES if family.name == "sdxl-instruct-pix2pix")


@pytest.mark.parametrize("name", ["instruction", "negative_prompt"])
def test_a_text_that_clip_would_cut_is_refused(name: str, tiny: Callable[[str], Path]) -> None:
    twins = Twins(SDXL, tiny(SDXL.name))
    edit = edits_of(SDXL)[0]
    longest = "x" * 75  # with a beginning and an end, 77 tokens
    for text in (longest, longest + "x"):
        options = {**edit.options, "guidance_scale": 3.0}
        given = {"instruction": text} if name == "instruction" else {}
        options |= {"negative_prompt": text} if name == "negative_prompt" else {}
        request = twins.request(replace(edit, **given, options=options))
        if text == longest:
            assert twins.editor.check(request) == []
        else:
            with pytest.raises(InstructionTooLong, match=f"{name} has 78 tokens") as caught:
                twins.editor.check(request)
            assert caught.value.param == name


def test_a_folder_that_may_be_cosxls_must_say_so(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    """`save_pretrained` of diffusers' pipeline drops `is_cosxl_edit`."""
    folder = Path(shutil.copytree(tiny("cosxl-edit"), tmp_path / "saved"))
    index = json.loads((folder / "model_index.json").read_text())
    del index["is_cosxl_edit"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r'EDMEulerScheduler.*"is_cosxl_edit": true into'):
        find_model(str(folder))


def test_the_canvas_has_the_sources_aspect_and_stretched_it_is_diffusers_square() -> None:
    whole = plan_geometry((3000, 2000), EditOptions(), SDXL_INSTRUCT_PIX2PIX)
    assert whole.inner == (928, 640)
    stretched = plan_geometry((3000, 2000), EditOptions(resize="stretch"), SDXL_INSTRUCT_PIX2PIX)
    assert stretched.inner == (768, 768)


@pytest.mark.parametrize(("upcast", "expected"), [(True, torch.float32), (False, torch.float16)])
def test_a_vae_that_overflows_has_no_half_precision(
    upcast: bool, expected: torch.dtype, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny(SDXL.name), tmp_path / "folder"))
    config = json.loads((folder / "vae" / "config.json").read_text())
    (folder / "vae" / "config.json").write_text(json.dumps({**config, "force_upcast": upcast}))
    placement = Placement(torch.device("cpu"), torch.float16)
    editor = SdxlInstructPix2Pix.load(folder, find_model(str(folder)), placement)
    assert editor._vae.dtype == expected
    assert editor._unet.dtype == torch.float16
