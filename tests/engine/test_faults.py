"""What breaks breaks alone: memory, precision, deadlines, devices."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from engine import EditActor, EngineConfig
from engine.edit import EditFailure, EditOutcome, EditRequest, EditResult
from engine.errors import NonFinite
from engine.isolation import DEAD_DEVICE_EXIT_CODE
from engine.loading import load_model
from engine.models import Conditioning, Inputs
from engine.models.instruct_pix2pix import InstructPix2Pix
from engine.pacing import LaunchPacer
from engine.sources import Prepared
from engine.spec import ModelSpec
from tests.editors import faulty
from tests.engine.test_loop import make_loop, mixed_requests, pixels, run

EditOf = Callable[..., Prepared]
ROWS_THAT_FIT = 6


class SmallMemory(InstructPix2Pix):
    """A device on which two samples fit, and three do not."""

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        inputs: Inputs,
        layout: Hashable,
    ) -> torch.Tensor:
        if len(latents) > ROWS_THAT_FIT:
            raise torch.OutOfMemoryError(f"{len(latents)} rows do not fit")
        return super().predict(latents, timesteps, inputs, layout)


class NoMemory(InstructPix2Pix):
    def encode(self, requests: Sequence[EditRequest]) -> list[Conditioning]:
        raise torch.OutOfMemoryError("nothing fits")


class NarrowRange(InstructPix2Pix):
    """A decoder that leaves half precision's range."""

    def decode(self, latents: torch.Tensor, *, float32: bool = False) -> list[np.ndarray]:
        if not float32:
            raise NonFinite("beyond 65504")
        return super().decode(latents, float32=True)


class DeadDevice(InstructPix2Pix):
    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        inputs: Inputs,
        layout: Hashable,
    ) -> torch.Tensor:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


class DiesLater(InstructPix2Pix):
    """A device whose fault shows at the next wait for it, outside of any model call."""

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        inputs: Inputs,
        layout: Hashable,
    ) -> torch.Tensor:
        def wait() -> None:
            raise torch.AcceleratorError("CUDA error: device-side assert triggered")

        LaunchPacer.launched = lambda _: wait()  # type: ignore[method-assign]
        return super().predict(latents, timesteps, inputs, layout)


def with_editor(spec: ModelSpec, name: str) -> ModelSpec:
    return replace(spec, editor=f"tests.engine.test_faults:{name}")


def four_edits(edit_of: EditOf, steps: int = 3) -> list[EditRequest]:
    options = {"scheduler": "euler_ancestral", "num_inference_steps": steps}
    return [
        edit_of("coffee", "make it night", id=str(i), seed=i, **options).request for i in range(4)
    ]


def test_a_batch_that_does_not_fit_is_halved_and_the_cap_is_remembered(
    edit_of: EditOf, pocket: ModelSpec
) -> None:
    loop = make_loop(with_editor(pocket, "SmallMemory"))
    outcomes = run(loop, four_edits(edit_of))
    assert all(isinstance(outcome, EditResult) for outcome in outcomes.values())
    assert loop.counters.out_of_memory == 1
    run(loop, four_edits(edit_of))
    assert loop.counters.out_of_memory == 1


def test_a_step_that_is_tried_again_draws_no_noise_twice(
    edit_of: EditOf, pocket: ModelSpec
) -> None:
    """Seeds promise the noise, whatever the batch went through."""
    calm = run(make_loop(pocket), four_edits(edit_of))
    retried = run(make_loop(with_editor(pocket, "SmallMemory")), four_edits(edit_of))
    for id, outcome in calm.items():
        assert isinstance(outcome, EditResult)
        other = retried[id]
        assert isinstance(other, EditResult)
        difference = outcome.images[0].astype(int) - other.images[0].astype(int)
        assert np.abs(difference).max() <= 1


def test_an_edit_that_does_not_fit_alone_says_so(edit_of: EditOf, pocket: ModelSpec) -> None:
    outcomes = run(make_loop(with_editor(pocket, "NoMemory")), four_edits(edit_of))
    for failure in outcomes.values():
        assert isinstance(failure, EditFailure)
        assert (failure.code, failure.retryable, failure.status) == ("out_of_memory", True, 503)


@pytest.mark.slow
def test_a_decode_beyond_half_precision_is_done_again_in_float32(
    edit_of: EditOf, pocket: ModelSpec
) -> None:
    plain = run(make_loop(pocket, "strict"), four_edits(edit_of))
    narrow = run(make_loop(with_editor(pocket, "NarrowRange"), "strict"), four_edits(edit_of))
    assert {id: pixels(o) for id, o in narrow.items()} == {id: pixels(o) for id, o in plain.items()}


def test_decoding_in_float32_leaves_the_weights_as_they_were(pocket: ModelSpec) -> None:
    editor = load_model(pocket, EngineConfig(dtype="bfloat16")).editor
    vae = json.loads((Path(pocket.source) / "vae" / "config.json").read_text())
    shape = (1, vae["latent_channels"], 16, 16)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = editor.decode(latents)
        precise = editor.decode(latents, float32=True)
        after = editor.decode(latents)
    assert np.array_equal(before[0], after[0])
    assert not np.array_equal(before[0], precise[0])


@pytest.mark.parametrize("editor", ["DeadDevice", "DiesLater"])
def test_a_dead_device_ends_the_process_so_that_a_retry_meets_a_fresh_one(
    photographs: dict[str, bytes], tmp_path: Path, editor: str
) -> None:
    (tmp_path / "photo.jpg").write_bytes(photographs["coffee"])
    code = f"""
from dataclasses import replace
from engine import EditActor, EditOptions, Source, prepare
from engine.registry import find_model
spec = replace(find_model("pocket", 64), editor="tests.engine.test_faults:{editor}")
with EditActor(spec=spec) as actor:
    options = spec.resolve(EditOptions(), 1)
    source = Source(open({str(tmp_path / "photo.jpg")!r}, "rb").read())
    edit = prepare("1", source, "x", options, spec)
    actor.edit_batch([edit.request])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == DEAD_DEVICE_EXIT_CODE, done.stderr
    assert "the device is dead" in done.stderr


def test_what_is_late_is_given_up_and_the_most_urgent_goes_first(
    edit_of: EditOf, pocket: ModelSpec
) -> None:
    patient, hurried = (
        replace(edit_of(name, "add fog", id=name, num_inference_steps=2).request, timeout_s=timeout)
        for name, timeout in (("coffee", None), ("astronaut", 60.0))
    )
    late = replace(edit_of("rocket", "add fog", id="late").request, timeout_s=0.0)
    loop = make_loop(pocket)
    for request in (patient, hurried, late):
        loop.admit(request)
    order: list[EditOutcome] = []
    while not loop.idle:
        order += loop.step()
    assert [outcome.id for outcome in order] == ["late", "astronaut", "coffee"]
    assert isinstance(order[0], EditFailure) and order[0].code == "deadline_exceeded"


def test_a_failing_progress_callback_does_not_step_a_sample_twice(
    edit_of: EditOf, pocket: ModelSpec
) -> None:
    seen: list[tuple[str, int, int]] = []

    def watch(*at: object) -> None:
        seen.append(at)  # type: ignore[arg-type]
        raise RuntimeError("the watcher is broken")

    with EditActor(EngineConfig(), pocket, progress=watch) as actor:
        edited = actor.edit_batch([edit_of("coffee", "add fog", num_inference_steps=3).request])
    assert isinstance(edited[0], EditResult)
    assert seen == [("coffee", k, 3) for k in (1, 2, 3)]


@pytest.mark.slow
@pytest.mark.parametrize("waves", [5, pytest.param(20, marks=pytest.mark.chaos)])
def test_mixed_requests_by_the_hundred_have_one_outcome_each(
    edit_of: EditOf, pocket: ModelSpec, waves: int
) -> None:
    """Random options, cancels and faults; no thread and no memory is left behind."""
    draw = random.Random(0)
    texts = ["make it night"] * 6 + ["fail in encode", "nan in encode"]
    tiny = replace(pocket, resolution=32)
    cancelled, outcomes, memory = set(), {}, []
    threads = threading.active_count()
    with EditActor(EngineConfig(max_batch_size=6), faulty(tiny)) as actor:
        for wave in range(waves):
            batch = [
                replace(request, id=f"{wave}-{i}", instruction=draw.choice(texts))
                for i, request in enumerate(mixed_requests(edit_of, 50, seed=wave, spec=tiny))
            ]
            futures: list[Future[EditOutcome]] = actor.submit(batch)
            for request in draw.sample(batch, 5):
                actor.cancel(request.id)
                cancelled.add(request.id)
            for request, future in zip(batch, futures, strict=True):
                outcome = future.result(timeout=120)
                assert outcome.id == request.id and outcome.id not in outcomes
                outcomes[outcome.id] = (request.instruction, outcome)
            memory.append(psutil.Process().memory_info().rss)
        assert actor.in_flight == 0
    assert len(outcomes) == 50 * waves
    for id, (text, outcome) in outcomes.items():
        if isinstance(outcome, EditResult):
            assert text == "make it night"
        elif outcome.code != "cancelled":
            assert (text, outcome.code) in {
                ("fail in encode", "internal_error"),
                ("nan in encode", "non_finite"),
            }
        else:
            assert id in cancelled
    assert threading.active_count() == threads
    assert max(memory[waves // 2 :]) <= 1.05 * memory[waves // 2]
