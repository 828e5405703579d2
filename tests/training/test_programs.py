"""The training programs run, save, go on where they stopped, and export what diffusers loads."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image

import rayedit
from engine.models.known_edits import KnownEdits
from engine.quality.judge import PocketJudge
from engine.registry import find_model
from tests.conftest import POCKET
from training import (
    made,
    train_autoencoder,
    train_editor,
    train_judge,
    train_known_edits,
    train_text,
)
from training.export import LOCK_FILE, export
from training.orthogonal import orthogonalise
from training.photographs import prepare
from training.text_encoder import TextEncoder


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    packages = tmp_path_factory.mktemp("packages")
    Image.fromarray(skimage.data.chelsea()).save(packages / "cat.png")
    Image.fromarray(skimage.data.chelsea()).resize((225, 150)).save(packages / "cat-small.jpg")
    Image.fromarray(skimage.data.coffee()).save(packages / "coffee.jpg")
    Image.new("RGB", (64, 64), "gray").save(packages / "flat.png")
    output = tmp_path_factory.mktemp("photographs")
    assert prepare(packages, output) == 2
    return output


def options_of(**values: object) -> argparse.Namespace:
    return argparse.Namespace(threads=2, device="cpu", lr=1e-3, **values)


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory, photographs: Path) -> Path:
    model = train_autoencoder.new_autoencoder()
    folder = tmp_path_factory.mktemp("vae")
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    options = options_of(
        output=folder, teacher=None, steps=2, batch=4, every=100, seed=0, part="all"
    )
    trainer = train_text.TextTrainer(options)
    losses = [trainer.train_step(step) for step in range(2)]
    trainer.save()
    assert np.isfinite(losses).all()
    return folder


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory, photographs: Path) -> Path:
    """One that learned for a step, stopped, and went on for another."""
    pytest.importorskip("sklearn", reason="the held-out photographs need scikit-learn")
    folder = tmp_path_factory.mktemp("judge")
    options = options_of(
        photographs=photographs, vae=POCKET / "vae", unet=POCKET / "unet", output=folder, drawn=1,
        made=1, steps=1, decay_from=1, batch=6, every=9,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "CROPS", 1)
        first = train_judge.JudgeTrainer(options)
    parts = sorted(folder.glob("*-*.safetensors"))
    before = {name: weight.clone() for name, weight in first.network.named_parameters()}
    first.run()
    assert all(not weight.equal(before[name]) for name, weight in first.network.named_parameters())
    options.steps = 2
    resumed = train_judge.JudgeTrainer(options)
    assert (resumed.step, sorted(folder.glob("*-*.safetensors"))) == (1, parts)
    assert len(parts) == 2
    resumed.run()
    lines = [json.loads(line) for line in (folder / "log.jsonl").open()]
    assert [line["step"] for line in lines] == [1, 2]
    return folder


def editor_options(photographs: Path, vae: Path, output: Path, steps: int) -> argparse.Namespace:
    return options_of(
        photographs=photographs, vae=vae, output=output, steps=steps, text="codes", init=None,
        weights=None, decay_from=1, ema=0.9, size_shares=(1.0, 0.0, 0.0), every=1000, grid=9,
        batch=8,
    )  # fmt: skip


def test_the_editor_resumes_from_its_checkpoint_and_exports(
    photographs: Path, vae: Path, text: Path, judge: Path, tmp_path: Path
) -> None:
    output = tmp_path / "editor"
    train_editor.Trainer(editor_options(photographs, vae, output, steps=1)).run()
    resumed = train_editor.Trainer(editor_options(photographs, vae, output, steps=2))
    assert resumed.step == 1
    before = [w.clone() for w in resumed.average.weights]
    resumed.run()
    assert resumed.step == 2
    moved = zip(before, resumed.average.weights, strict=True)
    assert any(not torch.equal(old, new) for old, new in moved)
    assert list(output.glob("grid-*.png"))

    known, folder = tmp_path / "known", tmp_path / "pocket"
    encoder = TextEncoder.load(text)
    head = train_known_edits.fit(*train_known_edits.lessons(encoder, 4, 0), steps=2, lr=1e-3)
    train_known_edits.save(head, known)
    export(vae, output / "unet", text, known, judge, folder)
    assert KnownEdits.load(folder)
    assert PocketJudge.load(folder)
    assert not (folder / "judge" / "checkpoint.pt").exists()
    for name, digest in json.loads((folder / LOCK_FILE).read_text()).items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(
        folder, safety_checker=None, dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    source = Image.fromarray(skimage.data.chelsea()[:64, :96])
    edited = pipeline("变成夜晚", image=source, num_inference_steps=2).images[0]
    assert edited.size == source.size
    edits_at_its_own_size(folder)


def edits_at_its_own_size(folder: Path) -> None:
    """By its folder alone it edits at the 128 px that it was trained at."""
    spec = find_model(str(folder))
    assert (spec.resolution, spec.multiple) == (128, 16)
    with rayedit.Editor(str(folder), num_threads=2) as editor:
        edited = editor.edit(skimage.data.astronaut(), "make it night", num_inference_steps=1)
    assert edited.size == (128, 128)


@pytest.mark.slow
def test_the_autoencoder_learns_and_resumes(photographs: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the held-out photographs need scikit-learn")
    options = options_of(
        photographs=photographs, output=tmp_path / "vae", init=None, steps=2, batch=2, crop_px=32,
        sharp=1.0, no_jitter=False, every=9,
    )  # fmt: skip
    train_autoencoder.train(options)
    options.steps = 3
    train_autoencoder.train(options)
    lines = [json.loads(line) for line in (tmp_path / "vae" / "log.jsonl").open()]
    assert [line["step"] for line in lines] == [2, 3]


def test_an_orthogonal_update_has_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((16, 48), (48, 16), (8, 8)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert values.min() > 0.4
        assert values.max() < 1.3
