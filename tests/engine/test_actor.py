"""EditActor where the loop's own tests do not reach: what a caller hands in and takes back."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from engine import EditActor, EditFailure, EditResult, EngineConfig
from engine.loading import load_model
from engine.models.instruct_pix2pix import InstructPix2Pix
from engine.spec import ModelSpec
from tests.conftest import Prepare


def printed_by(code: str) -> str:
    """What a process of its own prints."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_request_that_the_tokenizer_chokes_on_does_not_fail_its_mates(
    edit_of: Prepare, strict_actor: EditActor
) -> None:
    good = edit_of("coffee", "make it night", num_inference_steps=2).request
    bad = replace(good, id="bad", instruction="\ud800")  # no door lets it through
    outcomes = strict_actor.edit_batch([bad, good])
    assert isinstance(outcomes[0], EditFailure)
    assert outcomes[0].code == "internal_error"
    assert isinstance(outcomes[1], EditResult)


def test_a_future_is_ended_by_cancel_alone(edit_of: Prepare, strict_actor: EditActor) -> None:
    """A future that its waiter cancelled must not kill the thread that resolves it."""
    request = edit_of("coffee", "make it night", num_inference_steps=50).request
    (future,) = strict_actor.submit([request])
    assert not future.cancel()
    assert strict_actor.in_flight == 1
    strict_actor.cancel(request.id)
    outcome = future.result(timeout=30)
    assert isinstance(outcome, EditFailure)
    assert outcome.code == "cancelled"
    assert strict_actor.in_flight == 0
    assert strict_actor.alive


def test_no_thread_but_the_denoising_one_computes() -> None:
    """The calling thread's first parallel work starts OpenMP threads: it had none until then."""
    code = """
import numpy as np, psutil, torch
from engine import EditActor, EditOptions, EditRequest, EngineConfig
from engine.registry import find_model
spec = find_model("pocket", 64)
options = spec.resolve(EditOptions(num_inference_steps=3, scheduler="unipc"), seed=1)
with EditActor(EngineConfig(num_threads=3), spec) as actor:
    (edited,) = actor.edit_batch([EditRequest("1", np.zeros((64, 64, 3), np.uint8), "x", options)])
    before = psutil.Process().num_threads()
    torch.set_num_threads(3)
    torch.zeros(10_000_000).add_(1)
    print(type(edited).__name__, psutil.Process().num_threads() - before)
"""
    assert printed_by(code).split() == ["EditResult", "2"]


@pytest.mark.slow
def test_what_a_step_frees_the_next_one_has() -> None:
    """Four batches after the first: up to 6,000 page faults; 28,000 and more untold.

    Each is of a moment when the heap grows, which differs from run to run.
    """
    code = """
import numpy as np, resource
from engine import EditActor, EditOptions, EditRequest, EngineConfig
from engine.registry import find_model
spec = find_model("pocket")
options = spec.resolve(EditOptions(num_inference_steps=2), seed=1)
requests = [EditRequest(str(i), np.zeros((128, 128, 3), np.uint8), "x", options) for i in range(4)]
with EditActor(EngineConfig(max_batch_size=4, num_threads=1), spec) as actor:
    actor.edit_batch(requests)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        actor.edit_batch(requests)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    assert int(printed_by(code)) < 14_000


class Tuned(InstructPix2Pix):
    """Keeps what it was told."""

    def tune(self, *, channels_last: bool, compile: bool) -> None:
        self.channels_last = channels_last


@pytest.mark.parametrize(("told", "done"), [(None, True), (True, True), (False, False)])
def test_weights_are_channels_last_on_a_cpu_unless_told(
    pocket: ModelSpec, told: bool | None, done: bool
) -> None:
    spec = replace(pocket, editor="tests.engine.test_actor:Tuned")
    loaded = load_model(spec, EngineConfig(device="cpu", channels_last=told))
    assert isinstance(loaded.editor, Tuned)
    assert loaded.editor.channels_last is done
