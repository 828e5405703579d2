"""Pocket's own styles: a program trains them, and under those that ship the look is there."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

import rayedit
from engine.adapter import find_adapter
from engine.adapters import Adapters
from engine.built_in_styles import BUILT_IN
from engine.catalogue import POCKET
from engine.config import EngineConfig
from engine.loading import load_model
from training.crops import Colours
from training.kinds import KINDS
from training.looks import LOOKS
from training.measures import psnr
from training.photographs import square
from training.train_style import StyleTrainer, in_look
from training.triplets import Triplets

LEAST_GAIN_DB = 2.0  # towards the true edit in the look, by the style


def options(folder: Path, steps: int) -> argparse.Namespace:
    model = Path(POCKET.source)
    return argparse.Namespace(
        look="film", photographs=folder, model=model, vae=model / "vae", init=None, text="codes",
        output=folder / "film", steps=steps, decay_from=1, batch=2, lr=1e-3, ema=0.9, every=1000,
        size_shares=(1.0, 0.0, 0.0), weights=None, threads=1, device="cpu",
    )  # fmt: skip


@pytest.mark.slow
def test_a_style_is_trained_alone_resumed_and_read_by_the_engine(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    Image.fromarray(skimage.data.coffee()).save(tmp_path / "coffee.png")
    first = StyleTrainer(options(tmp_path, steps=1))
    before = {name: weight.clone() for name, weight in first.unet.state_dict().items()}
    first.run()
    moved = {
        name for name, weight in first.unet.state_dict().items() if not weight.equal(before[name])
    }
    assert moved and all("lora_B" in name for name in moved)  # A moves once B is not zero
    resumed = StyleTrainer(options(tmp_path, steps=2))
    assert resumed.step == 1
    resumed.run()
    assert len(list((tmp_path / "film").glob("grid-*.png"))) == 2
    editor = load_model(POCKET, EngineConfig(device="cpu")).editor
    weights = Adapters(editor).hold(find_adapter("film", tmp_path / "film" / "film.safetensors"))
    assert {len(low.down) for low in weights.layers.values()} == {4}
    started = options(tmp_path / "film", steps=1)
    started.photographs, started.init = tmp_path, tmp_path / "film" / "film.safetensors"
    again = StyleTrainer(started).unet.state_dict()
    assert any(weight.any() for name, weight in again.items() if "lora_B" in name)


def test_the_targets_of_a_style_are_those_of_the_editor_in_its_look() -> None:
    crops = np.linspace(0, 1, 2 * 4 * 4 * 3, dtype=np.float32).reshape(2, 4, 4, 3)
    told, alone = np.array([False, True]), np.array([False, False])
    batch = Triplets(crops, crops[::-1].copy(), ["night", "fog"], np.arange(2), told, alone)
    targets = in_look(batch, "riso").edited
    riso = LOOKS["riso"]
    assert np.array_equal(targets[0], riso(crops[1]))
    assert np.array_equal(targets[1], riso(crops[1]))  # no instruction: the source in the look


@pytest.mark.parametrize("look", LOOKS)
def test_an_edit_in_a_style_that_ships_is_the_true_edit_in_its_look(look: str) -> None:
    sources = {"make it night": square(skimage.data.chelsea(), 128)}
    sources["make it vivid"] = square(skimage.data.coffee(), 128)
    kinds = {"make it night": "night", "make it vivid": "vivid"}
    assert BUILT_IN.by_name[look].lora is not None
    with rayedit.Editor("pocket", num_threads=1) as editor:
        for text, source in sources.items():
            truth = LOOKS[look](KINDS[kinds[text]].apply(source.astype(np.float32) / 255))

            def near(
                source: np.ndarray = source, text: str = text, truth: Colours = truth, **more: float
            ) -> float:
                made = editor.edit(source, text, style=look, num_inference_steps=8, **more)
                return psnr(np.asarray(made, dtype=np.float32) / 255, truth)

            assert near() > near(lora_scale=0.0) + LEAST_GAIN_DB
