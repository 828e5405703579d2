"""Fine-tuning: each triplet once an epoch, resumed as if undisturbed, and what is written edits."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

import rayedit
from engine.adapter import find_adapter
from engine.adapters import Adapters
from engine.config import EngineConfig
from engine.errors import EngineError, ManifestInvalid, ModelError, OptionInvalid
from engine.loading import load_model
from engine.registry import find_model
from tests.batch_jobs.shared_ray import shared_ray
from tests.conftest import POCKET
from tests.serving import eventually
from tests.tiny import stable_diffusion
from tests.training.pix2pix import (
    COUNT,
    SIDE_PX,
    losses,
    options_of,
    run_of,
    write_triplets,
)
from training.pix2pix.model import Parts, folder_of, widen
from training.pix2pix.order import Order, parts_of
from training.pix2pix.triplet_files import TripletFile, TripletFiles
from training.pix2pix.workers import train

STEPS = 20
RUN_TIMEOUT_S = 240.0
Tiny = Callable[[str], Path]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_triplets(tmp_path_factory.mktemp("triplets") / "train.parquet")


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_each_triplet_counts_once_an_epoch_however_many_workers_share_it(workers: int) -> None:
    usable = np.flatnonzero(np.arange(23) != 5)
    order = Order(usable, batch=6, seed=3)
    shuffles = []
    for epoch in range(2):
        steps = [order.at(epoch * order.steps_an_epoch + n) for n in range(order.steps_an_epoch)]
        assert {step.epoch for step in steps} == {epoch}
        counted: list[int] = []
        for step in steps:
            shares = [list(parts_of(step, 1, worker, workers)) for worker in range(workers)]
            assert len({len(share) for share in shares}) == 1
            for part in (part for share in shares for part in share):
                counted += part.indices[part.weights > 0].tolist()
        assert sorted(counted) == usable.tolist()
        shuffles.append([int(index) for step in steps for index in step.indices])
    assert shuffles[0] != shuffles[1]
    assert shuffles[0][:6] == order.at(0).indices.tolist()


def test_the_dice_of_a_triplet_are_its_own_in_each_epoch() -> None:
    order = Order(np.arange(4), batch=2, seed=3)
    drawn = {torch.rand(1, generator=order.dice(e, i)).item() for e in (0, 1) for i in range(4)}
    assert len(drawn) == 8
    assert torch.rand(1, generator=order.dice(1, 2)).item() in drawn


@pytest.mark.parametrize("more", [{}, {"use_ema": True, "lr_scheduler": "cosine"}])
def test_a_resumed_run_repeats_the_undisturbed_one(
    tiny: Tiny, data: Path, tmp_path: Path, more: dict[str, object]
) -> None:
    model, whole, cut = tiny("instruct-pix2pix"), tmp_path / "whole", tmp_path / "cut"
    settings = {"max_train_steps": 5, "checkpointing_steps": 2, "lr_warmup_steps": 2, **more}
    one = run_of(model, data, whole, **settings)
    one.run()
    stopped = run_of(model, data, cut, **settings)
    for _ in range(2):
        stopped.losses.append(stopped.train_step())
        stopped._tell(1.0)
    stopped.checkpoints.save(2, stopped._state())
    stopped.losses.append(stopped.train_step())
    stopped._tell(1.0)  # a line of a step that no checkpoint has
    two = run_of(model, data, cut, **settings)
    assert two.step == 2
    two.run()
    assert losses(cut) == losses(whole) and len(losses(whole)) == 5
    for name, weight in one.learning.items():
        assert torch.equal(weight, two.learning[name]), name


def test_gradients_that_accumulate_are_those_of_one_batch(
    tiny: Tiny, data: Path, tmp_path: Path
) -> None:
    model = tiny("instruct-pix2pix")
    one = run_of(model, data, tmp_path / "one", train_batch_size=4)
    two = run_of(model, data, tmp_path / "two", train_batch_size=2, gradient_accumulation_steps=2)
    for _ in range(3):  # the third step has two triplets
        assert one.train_step() == pytest.approx(two.train_step(), abs=1e-5)


def test_what_is_written_is_an_editor_of_the_size_that_it_was_trained_at(
    tiny: Tiny, data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    run = run_of(
        POCKET, data, output, resolution=SIDE_PX, max_train_steps=1, num_validation_images=2,
        validation_num_inference_steps=1, use_ema=True, train_text_encoder_layers=1,
        mixed_precision="bf16", last_timestep_share=0.5,
    )  # fmt: skip
    before = {name: weight.detach().clone() for name, weight in run.learning.items()}
    run.run()
    assert {name.split(".")[0] for name in before} == {"unet", "text_encoder"}
    assert any(not torch.equal(before[name], weight) for name, weight in run.learning.items())
    assert Image.open(output / "grid-000001.png").size == (2 * SIDE_PX, 3 * SIDE_PX)
    with rayedit.Editor(str(output), num_threads=1) as editor:
        edited = editor.edit(Image.new("RGB", (200, 200), "teal"), "make it night", seed=1)
    assert edited.size == (SIDE_PX, SIDE_PX)


def test_a_lora_is_one_that_a_style_of_the_model_takes(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "lora"
    run = run_of(POCKET, data, output, resolution=SIDE_PX, max_train_steps=1, rank=2)
    assert all("lora_" in name for name in run.learning)
    run.run()
    editor = load_model(find_model("pocket"), EngineConfig(device="cpu")).editor
    weights = Adapters(editor).hold(find_adapter("mine", output))
    assert {len(low.down) for low in weights.layers.values()} == {2}


def test_a_model_that_paints_from_a_text_is_widened_and_paints_as_before(
    data: Path, tmp_path: Path
) -> None:
    model = stable_diffusion.build(tmp_path / "sd15")
    parts = Parts.load(folder_of(str(model)), torch.device("cpu"))
    assert parts.unet.config.in_channels == 8
    rows, source = torch.randn(2, 1, 4, 8, 8)
    text = torch.randn(1, 77, parts.unet.config.cross_attention_dim)
    made = [
        parts.unet(torch.cat([rows, beside], dim=1), 500, text).sample
        for beside in (source, torch.zeros_like(source))
    ]
    assert torch.equal(*made)
    with pytest.raises(ModelError, match="takes 8 channels, neither 3 nor 6"):
        widen(parts.unet, 3)
    run = run_of(model, data, tmp_path / "out", max_train_steps=2, resolution=SIDE_PX)
    run.run()
    assert run.parts.unet.conv_in.weight[:, 4:].any()
    index = json.loads((tmp_path / "out" / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionInstructPix2PixPipeline"
    assert find_model(str(tmp_path / "out")).options >= {"image_guidance_scale"}


def test_a_triplet_that_cannot_be_read_is_named_and_left_out(tiny: Tiny, tmp_path: Path) -> None:
    data = write_triplets(tmp_path / "train.parquet", broken=3)
    run = run_of(tiny("instruct-pix2pix"), data, tmp_path / "out")
    assert run.order.usable.tolist() == [n for n in range(COUNT) if n != 3]
    assert (tmp_path / "out" / "left_out.log").read_text().startswith("train.parquet-0-3: ")


def test_a_run_goes_on_as_it_began_or_not_at_all(tiny: Tiny, data: Path, tmp_path: Path) -> None:
    model, output = tiny("instruct-pix2pix"), tmp_path / "out"
    run_of(model, data, output, max_train_steps=2).run()
    more = {"learning_rate": 8e-4, "lr_scheduler": "linear", "lr_warmup_steps": 0}
    resumed = run_of(model, data, output, max_train_steps=4, **more)
    assert resumed.step == 2
    assert resumed.optimiser.param_groups[0]["lr"] == pytest.approx(4e-4)
    resumed.train_step()
    assert resumed.schedule.get_last_lr() == pytest.approx([2e-4])
    with pytest.raises(OptionInvalid, match="holds a run with seed 0, and this one has 1"):
        run_of(model, data, output, max_train_steps=3, seed=1)
    with pytest.raises(OptionInvalid, match="has checkpoint-2"):
        run_of(model, data, output, resume_from_checkpoint="checkpoint-7")
    assert run_of(model, data, output, seed=1, resume_from_checkpoint="none").step == 0
    assert losses(output) == {}


def test_triplets_of_any_shape_and_of_a_factory_are_read(
    data: Path, tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    """Lines with paths beside a table with bytes."""
    for name, photo in photographs.items():
        (tmp_path / f"{name}.jpg").write_bytes(photo)
    lines = tmp_path / "train.jsonl"
    rows = [
        {"source_img": "coffee.jpg", "instruction": "a cat", "target_img": "chelsea.jpg"},
        {"source_img": "none.jpg", "instruction": "a cat", "target_img": "chelsea.jpg"},
        {"source_img": "coffee.jpg", "instruction": " ", "target_img": "chelsea.jpg"},
    ]
    lines.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    both = TripletFiles([TripletFile(str(data)), TripletFile(str(lines))])
    assert len(both) == COUNT + 3
    found = list(both.pictures(range(COUNT - 1, COUNT + 3)))
    assert not isinstance(found[0], EngineError)
    assert found[1] == (photographs["coffee"], photographs["chelsea"])
    assert [type(one).__name__ for one in found[2:]] == ["ImageNotFound", "InstructionEmpty"]
    with pytest.raises(ManifestInvalid, match="no column of edited pictures"):
        (tmp_path / "alone.jsonl").write_text('{"image": "coffee.jpg", "instruction": "x"}\n')
        TripletFile(str(tmp_path / "alone.jsonl"))


def test_what_does_not_go_together_is_one_line(tiny: Tiny, data: Path, tmp_path: Path) -> None:
    for values, said in (
        ({"rank": 4, "train_text_encoder_layers": 1}, "UNet alone"),
        ({"train_batch_size": 0}, "at least 1"),
        ({"conditioning_dropout_prob": 0.5}, "0 to 0.333"),
        ({"resolution": 100}, "a multiple of 64 px"),
        ({"mixed_precision": "fp16", "device": "cpu"}, "needs a GPU"),
    ):
        with pytest.raises(SystemExit, match=said):
            options_of(tiny("instruct-pix2pix"), data, tmp_path / "out", **values)
    with pytest.raises(SystemExit, match="--resolution is needed"):
        options_of(POCKET, data, tmp_path / "out")
    with pytest.raises(ModelError, match="FluxKontextPipeline"):
        options_of(tiny("flux-kontext"), data, tmp_path / "out")


def train_over_ray(
    request: pytest.FixtureRequest, model: Path, data: Path, output: Path, **settings: object
) -> None:
    """Two workers of the Ray that tests share."""
    options = options_of(model, data, output, train_batch_size=2, **settings)
    options.num_workers = 2
    interrupted = signal.getsignal(signal.SIGINT)  # Ray Train takes it
    with shared_ray(request.config):
        train(options)
    signal.signal(signal.SIGINT, interrupted)


@pytest.mark.slow
def test_two_workers_of_ray_train_learn_what_one_process_does(
    tiny: Tiny, data: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model, one, two = tiny("instruct-pix2pix"), tmp_path / "one", tmp_path / "two"
    settings = {"max_train_steps": 4, "checkpointing_steps": 2}
    run_of(model, data, one, **settings).run()
    train_over_ray(request, model, data, two, **settings)
    assert list(losses(two)) == [1, 2, 3, 4]
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)
    assert find_model(str(two)).resolution == SIDE_PX
    assert not (two / "ray").exists()


@pytest.mark.chaos
def test_a_killed_worker_goes_on_from_the_checkpoint_as_if_undisturbed(
    tiny: Tiny, data: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model, calm, stormy = tiny("instruct-pix2pix"), tmp_path / "calm", tmp_path / "stormy"
    settings = {"max_train_steps": STEPS, "checkpointing_steps": 5}
    run_of(model, data, calm, **settings).run()  # as two workers would, see above
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_worker, args=(stormy, killed))
    killer.start()
    train_over_ray(request, model, data, stormy, **settings)
    killer.join()
    assert killed and 6 < killed[0] < STEPS
    assert list(losses(stormy)) == list(range(1, STEPS + 1))  # and each but once
    assert losses(stormy) == pytest.approx(losses(calm), abs=1e-4)
    print(f"killed after {killed[0]} steps")


def kill_a_worker(output: Path, killed: list[int]) -> None:
    """Kill the second worker when a checkpoint and some more steps are behind it."""
    if not eventually(lambda: len(losses(output)) > 6, RUN_TIMEOUT_S):
        return
    family = psutil.Process().children(recursive=True)
    workers = [one for one in family if "RayTrainWorker" in " ".join(one.cmdline())]
    workers[-1].kill()
    killed.append(len(losses(output)))
