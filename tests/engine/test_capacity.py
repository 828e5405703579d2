"""Batches are as large as the memory allows, and never so large that it ends."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from cli.main import app
from engine import EditActor, EngineConfig
from engine.allocator import keep_freed_memory
from engine.calibration import CalibratedSize, Calibration
from engine.capacity import Capacity
from engine.config import load_config
from engine.edit import EditRequest, EditResult
from engine.errors import ModelError, OptionError
from engine.lane import Lane
from engine.loading import cost_settings, load_model
from engine.loop import DenoiseLoop
from engine.memory import HostMemory
from engine.models import Inputs
from engine.models.instruct_pix2pix import InstructPix2Pix
from engine.sources import Prepared
from engine.spec import ModelSpec

EditOf = Callable[..., Prepared]

LANE = Lane(64, 64)
SAMPLE_BYTES = 100


class SmallDevice:
    """A device of 1,000 bytes, which an edit's step fills with 100 a sample."""

    total_bytes = 1_000
    neighbour_bytes = 0
    _peak = 0

    def available_bytes(self) -> int:
        return self.total_bytes - self.neighbour_bytes

    def start(self) -> None:
        SmallDevice._peak = 0

    def peak_bytes(self) -> int:
        return SmallDevice._peak

    @classmethod
    def use(cls, size_bytes: int) -> None:
        if size_bytes > cls.total_bytes - cls.neighbour_bytes:
            raise torch.OutOfMemoryError(f"{size_bytes} bytes do not fit")
        cls._peak = max(cls._peak, size_bytes)


class OnSmallDevice(InstructPix2Pix):
    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        inputs: Inputs,
        layout: Hashable,
    ) -> torch.Tensor:
        SmallDevice.use(SAMPLE_BYTES * len(latents) // 3)
        return super().predict(latents, timesteps, inputs, layout)


@pytest.fixture
def small_loop(pocket: ModelSpec) -> DenoiseLoop:
    SmallDevice.neighbour_bytes = 0
    spec = replace(pocket, editor=f"{__name__}:OnSmallDevice")
    editor = load_model(spec, EngineConfig()).editor
    return DenoiseLoop(editor, Capacity(16, memory=SmallDevice()))


def edits(edit_of: EditOf, count: int) -> list[EditRequest]:
    return [
        edit_of("coffee", "add fog", id=str(i), seed=i, num_inference_steps=6).request
        for i in range(count)
    ]


def batch_sizes(loop: DenoiseLoop) -> list[int]:
    """Samples of each step's model calls, until the loop is idle; every edit must succeed."""
    sizes = []
    while not loop.idle:
        calls, branches = loop.counters.calls, loop.counters.branches
        assert all(isinstance(outcome, EditResult) for outcome in loop.step())
        sizes.append(
            (loop.counters.branches - branches) // 3 // max(loop.counters.calls - calls, 1)
        )
    return sizes


def test_without_a_calibration_a_lane_starts_at_one_sample_and_doubles_while_a_fifth_stays_free(
    edit_of: EditOf, small_loop: DenoiseLoop
) -> None:
    for request in edits(edit_of, 16):
        small_loop.admit(request)
    sizes = batch_sizes(small_loop)
    assert sizes[:4] == [1, 2, 4, 8]
    assert max(sizes) == 8  # of the 10 that 1,000 bytes hold
    assert small_loop.counters.out_of_memory == 0


def test_a_neighbour_on_the_device_makes_batches_smaller_and_breaks_none(
    edit_of: EditOf, small_loop: DenoiseLoop
) -> None:
    for request in edits(edit_of, 16):
        small_loop.admit(request)
    for _ in range(5):
        small_loop.step()
    SmallDevice.neighbour_bytes = 400
    assert max(batch_sizes(small_loop)) == 4
    assert small_loop.counters.out_of_memory == 0


def test_a_calibrated_size_starts_at_its_count_and_a_larger_one_is_scaled_down() -> None:
    size = CalibratedSize(
        width_px=64,
        height_px=64,
        samples=8,
        sample_bytes=SAMPLE_BYTES,
        step_ms={1: 2.0},
    )
    calibration = Calibration(
        model="m",
        revision="r",
        device="cpu",
        dtype="float32",
        settings="2 threads",
        sizes=[size],
    )
    assert Capacity(16, calibration).samples(LANE) == 8
    assert Capacity(4, calibration).samples(LANE) == 4
    assert Capacity(16, calibration).samples(Lane(32, 64)) == 8
    assert Capacity(16, calibration).samples(Lane(128, 64)) == 4
    SmallDevice.neighbour_bytes = 500
    assert Capacity(16, calibration, SmallDevice()).samples(LANE) == 3


@pytest.mark.slow
def test_calibrate_writes_what_the_engine_reads(
    edit_of: EditOf, pocket: ModelSpec, tmp_path: Path
) -> None:
    file = tmp_path / "calibration.yaml"
    arguments = ["calibrate", "--size", "64x64", "--max-samples", "4", "-o", str(file)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    (size,) = load_config(file, Calibration).sizes
    assert list(size.step_ms) == [1, 2, 4]
    assert size.samples in size.step_ms
    config = EngineConfig(calibration=str(file), max_batch_size=16)
    with EditActor(config, pocket) as actor:
        outcomes = actor.edit_batch(edits(edit_of, 6))
    assert max(o.batch_size for o in outcomes if isinstance(o, EditResult)) <= size.samples


def test_a_calibration_of_another_model_or_device_is_refused(
    pocket: ModelSpec, tmp_path: Path
) -> None:
    loaded = load_model(pocket, EngineConfig())
    good = {
        "model": "pocket",
        "revision": loaded.revision,
        "device": "cpu",
        "dtype": "float32",
        "settings": cost_settings(EngineConfig(), loaded.editor.device),
        "sizes": [
            {
                "width_px": 64,
                "height_px": 64,
                "samples": 1,
                "sample_bytes": 1,
                "step_ms": {1: 1.0},
            }
        ],
    }
    file = tmp_path / "calibration.yaml"
    config = EngineConfig(calibration=str(file))
    file.write_text(yaml.safe_dump(good))
    assert load_model(pocket, config).calibration
    for name in ("model", "revision", "device", "dtype", "settings"):
        file.write_text(yaml.safe_dump({**good, name: "other"}))
        with pytest.raises(ModelError, match=f"measured for {name} other"):
            load_model(pocket, config)
    file.write_text("sizes: []\n")
    with pytest.raises(OptionError):
        load_model(pocket, config)


@pytest.mark.parametrize(("kind", "default"), [("cpu", True), ("cuda", False)])
def test_a_calibration_holds_whether_a_setting_is_given_or_the_default(
    kind: str, default: bool
) -> None:
    device = torch.device(kind)
    given, other = (EngineConfig(channels_last=on) for on in (default, not default))
    assert cost_settings(given, device) == cost_settings(EngineConfig(), device)
    assert cost_settings(other, device) != cost_settings(EngineConfig(), device)


def test_host_memory_sees_what_is_allocated() -> None:
    memory = HostMemory()

    def sees_a_block() -> bool:
        memory.start()
        before = memory.available_bytes()
        block = np.ones(200 * 2**20, np.uint8)
        assert memory.peak_bytes() >= 190 * 2**20
        assert 0 < memory.available_bytes() < memory.total_bytes
        return memory.available_bytes() < before and bool(block.all())

    # Another process may give back as much in the same moment, but not ten times.
    assert any(sees_a_block() for _ in range(10))
    memory.start()
    assert memory.peak_bytes() < 100 * 2**20


def test_host_memory_sees_what_takes_the_place_of_kept_memory() -> None:
    keep_freed_memory()
    memory = HostMemory()
    blocks = [np.ones(20 * 2**20, np.uint8) for _ in range(10)]
    del blocks
    memory.start()
    blocks = [np.ones(20 * 2**20, np.uint8) for _ in range(10)]
    assert memory.peak_bytes() >= 190 * 2**20
    assert all(block.all() for block in blocks)
