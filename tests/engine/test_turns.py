"""Whose turn it is: short edits do not wait for long ones, equal ones keep their order."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.capacity import Capacity
from engine.edit import EditRequest, EditResult
from engine.loop import DenoiseLoop
from engine.options import EditOptions
from engine.registry import read_json
from engine.samples import LiveRequest
from engine.spec import ModelSpec
from engine.turns import Turns
from tests.batch_jobs.editors import DryEditor

SQUARE, WIDE = (64, 64), (64, 128)  # (height, width) in px


class SlowEditor(DryEditor):
    """Takes 10 ms for a model call: a long edit has seconds left, whatever the machine does."""

    def predict(self, latents: torch.Tensor, *inputs: object) -> torch.Tensor:
        time.sleep(0.01)
        return super().predict(latents, *inputs)


@pytest.fixture
def loop(pocket: ModelSpec) -> DenoiseLoop:
    config = read_json(Path(pocket.source) / "scheduler" / "scheduler_config.json")
    return DenoiseLoop(SlowEditor(pocket, config), Capacity(max_batch_size=4))


def request(
    spec: ModelSpec, id: str, steps: int, size: tuple[int, int] = SQUARE, **options: object
) -> EditRequest:
    given = EditOptions.parse({"num_inference_steps": steps, **options})
    pixels = np.zeros((*size, 3), np.uint8)
    return EditRequest(id, pixels, "add fog", spec.resolve(given, seed=0))


def live(
    spec: ModelSpec, order: int, steps: int, arrived: float, size: tuple[int, int] = SQUARE
) -> LiveRequest:
    found = LiveRequest(request(spec, str(order), steps, size), order, (), steps)
    found.arrived = arrived
    return found


def ids(lives: Sequence[LiveRequest]) -> list[str]:
    return [one.request.id for one in lives]


def known(seconds_a_step: float) -> Turns:
    turns = Turns()
    turns.count(SQUARE[0] * SQUARE[1], seconds_a_step)
    return turns


def test_the_earlier_goes_first_until_the_speed_is_known_and_among_equal_ones(
    pocket: ModelSpec,
) -> None:
    lives = [live(pocket, 1, 20, arrived=1), live(pocket, 0, 20, arrived=0)]
    for turns in (Turns(), known(1.0)):
        assert ids(turns.next(lives, lambda _: 4)) == ["0", "1"]
        assert ids(turns.next(lives, lambda _: 1)) == ["0"]
    long, short = live(pocket, 0, 100, arrived=0), live(pocket, 1, 1, arrived=1)
    assert ids(Turns().next([long, short], lambda _: 1)) == ["0"]


def test_one_goes_before_an_earlier_one_that_takes_longer_and_not_for_ever(
    pocket: ModelSpec,
) -> None:
    long = live(pocket, 0, 100, arrived=0)
    for arrived, first in ((1, "1"), (97, "1"), (100, "0")):
        for size in (SQUARE, WIDE):
            short = live(pocket, 1, 1, arrived=arrived, size=size)
            assert ids(known(1.0).next([long, short], lambda _: 1))[:1] == [first]


def test_a_turn_is_of_one_lane_and_of_as_many_images_as_have_room(pocket: ModelSpec) -> None:
    lives = [live(pocket, k, 20, arrived=k, size=(SQUARE, WIDE)[k % 2]) for k in range(12)]
    assert ids(known(1.0).next(lives, lambda _: 4)) == ["0", "2", "4", "6"]


def test_an_edit_of_one_step_does_not_wait_for_a_hundred_of_another_size_nor_for_a_full_batch(
    loop: DenoiseLoop, pocket: ModelSpec
) -> None:
    for size in (SQUARE, WIDE):
        loop.admit(request(pocket, "long", 100, num_images=4))
        for _ in range(3):
            assert loop.step() == []
        loop.admit(request(pocket, "short", 1, size))
        (done,) = loop.step()
        assert isinstance(done, EditResult) and done.id == "short"
        loop.cancel({"long"})


def test_what_was_interrupted_goes_on_where_it_was(pocket: ModelSpec, loop: DenoiseLoop) -> None:
    """The same picture, after the same number of model calls."""
    seen = []
    for interrupts in (False, True):
        before = loop.counters.branches
        loop.admit(request(pocket, "long", 40))
        for _ in range(3):
            loop.step()
        if interrupts:
            loop.admit(request(pocket, "short", 1, WIDE))
            assert [outcome.id for outcome in loop.step()] == ["short"]
        (long,) = [outcome for _ in range(37) for outcome in loop.step()]
        assert isinstance(long, EditResult) and loop.idle
        seen.append((long.images[0].tobytes(), loop.counters.branches - before - interrupts))
    assert seen[0] == seen[1]
