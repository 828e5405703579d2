"""Stable Diffusion under a ControlNet: diffusers' pictures from text and from the source."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.catalogue import SD15_CANNY
from engine.config import EngineConfig
from engine.errors import ModelError, OptionInvalid
from engine.loading import load_model
from engine.options import Scheduler
from engine.registry import find_model
from engine.schedulers import make_scheduler
from engine.weights import find_revision, find_weights, weights_bytes
from tests.engine.families import (
    BOUND,
    CANVASES,
    FAMILIES,
    Twins,
    check_same,
    difference,
    one_thread,
)
from tests.tiny.edits import Edit, source
from tests.tiny.pipelines import load
from tests.tiny.sd15_canny import control_of

CANNY = next(family for family in FAMILIES if family.name == "sd15-canny")
GUIDED = {"guidance_scale": 7.5, "negative_prompt": "blurry"}


def edit(
    canvas: int = 0, photograph: str = "chelsea", seed: int = 7, steps: int = 2, **options: Any
) -> Edit:
    """`canvas`: of `CANVASES`; guided, unless the options say otherwise."""
    given = {"num_inference_steps": steps, "controlnet_conditioning_scale": 1.0, **GUIDED}
    sources = (source(photograph, *CANVASES[canvas]),)
    return Edit(sources, "a night in oil", seed=seed, options={**given, **options})


@pytest.fixture(scope="module")
def twins(tiny: Callable[[str], Path]) -> Iterator[Twins]:
    with one_thread():
        yield Twins(CANNY, tiny(CANNY.name))


@pytest.mark.parametrize("scheduler", ["pndm", "euler_ancestral", "dpmpp_2m"])
def test_from_text_and_from_the_source_they_are_diffusers_edits_alone_and_mixed(
    twins: Twins, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    edits = [
        edit(1, "coffee", 8, 4, controlnet_conditioning_scale=1.6),
        edit(1, "rocket", 9, 3, guidance_scale=1.0, strength=1.0),
        edit(0, "astronaut", 10, 4, strength=0.5, controlnet_conditioning_scale=0.6),
    ]
    theirs_scheduler = make_scheduler(scheduler, twins.editor.scheduler_config)
    monkeypatch.setattr(twins.pipeline, "scheduler", theirs_scheduler)
    expected = [twins.diffusers(one) for one in edits]
    asked = [replace(one, options={**one.options, "scheduler": scheduler}) for one in edits]
    for one, theirs in zip(asked, expected, strict=True):
        check_same(twins.rayedit([one])[0], theirs)
    loop = twins.loop()
    for mine, theirs in zip(twins.rayedit(asked, loop=loop), expected, strict=True):
        check_same(mine, theirs)
    assert loop.counters.calls < 4 + 3 + 2


@pytest.mark.parametrize("options", [{}, {"strength": 1.0}], ids=["text", "source"])
def test_what_an_edit_asks_for_moves_the_latents(twins: Twins, options: dict[str, float]) -> None:
    asked = edit(**options)
    (photo,) = asked.sources
    turned = control_of(asked)[::-1].copy()
    other = source("coffee", *CANVASES[0])
    changed = {
        "seed": replace(asked, seed=8),
        "text": replace(asked, instruction="a sketch"),
        "source": replace(asked, sources=(other,)),
        "control image": replace(asked, sources=(photo, turned)),
        "scale": edit(controlnet_conditioning_scale=0.7, **options),
        "guidance": edit(**{**options, "guidance_scale": 3.0}),
        "negative prompt": edit(**{**options, "negative_prompt": "dull"}),
    }
    if options:
        changed["strength"] = edit(strength=0.5)
        changed["pipeline"] = edit()
        changed["source alone"] = replace(asked, sources=(other, control_of(asked)))
    (mine,) = twins.rayedit([asked])
    for what, another in changed.items():
        (moved,) = twins.rayedit([another])
        assert difference(moved, mine) > 100 * BOUND, what


def test_without_strength_the_source_is_seen_through_its_edges_alone(twins: Twins) -> None:
    asked = edit()
    other = source("coffee", *CANVASES[0])
    (mine,) = twins.rayedit([asked])
    (same,) = twins.rayedit([replace(asked, sources=(other, control_of(asked)))])
    assert same.pixels.tobytes() == mine.pixels.tobytes()


def test_edits_of_other_scales_share_every_call(twins: Twins) -> None:
    edits = [edit(seed=n, controlnet_conditioning_scale=n / 2) for n in range(3)]
    loop = twins.loop()
    requests = [twins.request(one, str(n)) for n, one in enumerate(edits)]
    for request in requests:
        loop.admit(request)
    outcomes = {}
    while not loop.idle:
        outcomes |= {outcome.id: outcome for outcome in loop.step()}
    assert loop.counters.calls == 3  # PNDM of 2 steps calls a model 3 times
    for n, one in enumerate(edits):
        alone = twins.rayedit([one])[0].pixels.astype(int)
        assert np.abs(getattr(outcomes[str(n)], "images")[0] - alone).max() <= 1  # noqa: B009


def test_masked_edits_from_the_source_are_those_of_diffusers_inpainting(
    twins: Twins,
) -> None:
    pipeline = load(twins.folder, "StableDiffusionControlNetInpaintPipeline")
    mask = np.zeros(CANVASES[0][::-1], np.uint8)
    mask[16:48, 16:64] = 255
    asked = replace(edit(steps=4, strength=0.55), mask=mask)
    theirs = twins.diffusers(asked, pipeline)
    check_same(twins.rayedit([asked])[0], theirs)
    everywhere = replace(asked, mask=np.full_like(mask, 255))
    assert difference(twins.diffusers(everywhere, pipeline), theirs) > 100 * BOUND


def test_a_strength_of_less_than_a_step_is_refused(twins: Twins) -> None:
    """diffusers has no first step then, and raises from within."""
    with pytest.raises(OptionInvalid, match=r"strength 0\.4 of 2 steps is less than one") as caught:
        twins.loop().check(twins.request(edit(strength=0.4)))
    assert caught.value.param == "strength"
    assert "at least 1/2" in caught.value.message
    twins.loop().check(twins.request(edit(strength=0.5)))


def test_a_request_without_its_control_image_is_refused(twins: Twins) -> None:
    request = replace(twins.request(edit()), references=())
    with pytest.raises(OptionInvalid, match=r"`engine\.sources\.prepare` makes it"):
        twins.loop().check(request)


def saved(folder: Path, to: Path, index: dict[str, Any], **parts: dict[str, Any]) -> Path:
    """A copy of a folder with other values in its index and in the configurations of parts."""
    shutil.copytree(folder, to)
    files = {"model_index.json": index}
    files |= {f"{name}/config.json": given for name, given in parts.items()}
    for name, given in files.items():
        known = json.loads((to / name).read_text())
        (to / name).write_text(json.dumps({**known, **given}))
    return to


@pytest.fixture(scope="module")
def apart(
    tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """The tiny folder as two: a text-to-image model's, and a ControlNet's."""
    place = tmp_path_factory.mktemp("apart")
    index = {"_class_name": "StableDiffusionPipeline", "controlnet": None}
    base = saved(tiny(CANNY.name), place / "base", index)
    return base, Path(shutil.move(base / "controlnet", place / "canny"))


def test_a_base_and_a_controlnet_in_two_folders_make_the_same_picture(
    twins: Twins, apart: tuple[Path, Path], tmp_path: Path
) -> None:
    base, controlnet = apart
    config = EngineConfig(
        model=str(base), controlnet=str(controlnet), device="cpu", dtype="float32"
    )
    spec = config.find_model()
    assert spec.parts == {"controlnet": str(controlnet)}
    editor = load_model(spec, config).editor
    (whole,) = twins.rayedit([edit()])
    (joined,) = twins.rayedit([edit()], loop=twins.loop(editor))
    assert joined.pixels.tobytes() == whole.pixels.tobytes()
    other = shutil.copytree(controlnet, tmp_path / "other")
    (other / "config.json").write_text("{}")
    assert find_weights(spec)[1] == find_revision(spec)
    assert find_revision(spec) != find_revision(spec.with_controlnet(str(other)))
    assert weights_bytes(spec) == weights_bytes(twins.spec)


def test_a_base_alone_has_the_registered_controlnet(apart: tuple[Path, Path]) -> None:
    spec = find_model(str(apart[0]))
    assert (spec.parts, spec.max_sources) == (SD15_CANNY.parts, 2)
    assert spec.resolution == 64 and spec.multiple == 16


def test_a_model_without_a_controlnet_takes_no_folder_of_one() -> None:
    config = EngineConfig(model="pocket", controlnet="somewhere")
    with pytest.raises(OptionInvalid, match="pocket has no ControlNet: leave controlnet out"):
        config.find_model()


def test_a_folder_of_the_img2img_pipeline_begins_at_the_source(
    twins: Twins, tmp_path: Path
) -> None:
    index = {"_class_name": "StableDiffusionControlNetImg2ImgPipeline"}
    defaults = find_model(str(saved(twins.folder, tmp_path / "folder", index))).defaults
    assert (defaults["strength"], defaults["controlnet_conditioning_scale"]) == (0.8, 0.8)
    assert "strength" not in twins.spec.defaults


@pytest.mark.parametrize(
    ("index", "parts", "says"),
    [
        ({}, {"unet": {"in_channels": 9}}, "its UNet takes 9 channels, not 4"),
        ({"controlnet": ["diffusers", "MultiControlNetModel"]}, {}, "has a MultiControlNetModel"),
        ({}, {"controlnet": {"cross_attention_dim": 1024}}, "does not fit the UNet, its cross_"),
        ({}, {"controlnet": {"global_pool_conditions": True}}, "needs diffusers' guess mode"),
    ],
)
def test_what_the_editor_cannot_run_is_refused_before_it_is_loaded(
    index: dict[str, Any], parts: dict[str, Any], says: str, twins: Twins, tmp_path: Path
) -> None:
    folder = saved(twins.folder, tmp_path / "folder", index, **parts)
    with pytest.raises(ModelError, match=says):
        find_model(str(folder))


def test_a_controlnet_of_another_unet_is_refused_by_name(
    twins: Twins, apart: tuple[Path, Path], tmp_path: Path
) -> None:
    other = shutil.copytree(apart[1], tmp_path / "other")
    known = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**known, "layers_per_block": 2}))
    config = EngineConfig(model=str(apart[0]), controlnet=str(other), device="cpu")
    with pytest.raises(ModelError, match="does not fit the UNet, its layers_per_block is 2 and"):
        load_model(config.find_model(), config)
