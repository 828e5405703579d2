"""The control image may act in a part of the run: diffusers' pictures, alone and in company."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.catalogue import SD15_CANNY
from engine.errors import OptionInvalid
from engine.loop import DenoiseLoop
from engine.options import EditOptions, Scheduler
from engine.schedulers import make_scheduler
from tests.engine.families import BOUND, Twins, check_same, difference, one_thread
from tests.engine.test_controlnet import CANNY, edit
from tests.engine.test_loop import pixels, run


@pytest.fixture(scope="module")
def twins(tiny: Callable[[str], Path]) -> Iterator[Twins]:
    with one_thread():
        yield Twins(CANNY, tiny(CANNY.name))


def window(start: float = 0.0, end: float = 1.0) -> dict[str, float]:
    return {"control_guidance_start": start, "control_guidance_end": end}


@pytest.mark.parametrize("scheduler", ["pndm", "heun"])  # whose calls are more than the steps
def test_its_edits_are_those_of_diffusers_alone_and_beside_others(
    twins: Twins, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    edits = [
        edit(0, "chelsea", 7, 4, **window(end=0.5)),
        edit(0, "coffee", 8, 5, **window(start=0.4), controlnet_conditioning_scale=1.6),
        edit(0, "rocket", 9, 4, **window(0.25, 0.75), strength=0.8),
        edit(0, "astronaut", 10, 3),
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
    assert loop.counters.calls <= 5 + 6 + len(edits)  # in the window or not, they share calls


@pytest.mark.parametrize("options", [{}, {"strength": 1.0}], ids=["text", "source"])
def test_each_window_makes_another_picture_and_the_whole_run_the_one_without(
    twins: Twins, options: dict[str, Any]
) -> None:
    def drawn(**more: float) -> Any:
        return twins.rayedit([edit(steps=4, **options, **more)])[0]

    plain = drawn()
    parts = [drawn(**window(end=0.5)), drawn(**window(0.5)), drawn(controlnet_conditioning_scale=0)]
    for i, one in enumerate(parts):
        for other in (plain, *parts[:i]):
            assert difference(one, other) > 100 * BOUND
    assert drawn(**window()).pixels.tobytes() == plain.pixels.tobytes()


def test_in_strict_its_bytes_are_those_of_the_edit_alone(twins: Twins) -> None:
    edits = [edit(seed=n, steps=2 + n, **window(end=0.4 + n / 5)) for n in range(3)]
    requests = [twins.request(one, str(n)) for n, one in enumerate(edits)]

    def loop() -> DenoiseLoop:
        return twins.loop(determinism="strict")

    alone = {request.id: pixels(run(loop(), [request])[request.id]) for request in requests}
    for order in (requests, requests[::-1]):
        together = run(loop(), order)
        assert {id: pixels(outcome) for id, outcome in together.items()} == alone


@pytest.mark.parametrize(
    ("given", "param", "says"),
    [
        ({"control_guidance_start": 1.0}, "control_guidance_start", "1.0 is not below control_"),
        ({"control_guidance_end": 0.0}, "control_guidance_end", "0.0 is not below control_"),
        (window(0.6, 0.4), "control_guidance_start", "0.6 is not below control_guidance_end 0.4"),
    ],
)
def test_a_window_that_ends_before_it_begins_is_refused(
    given: dict[str, float], param: str, says: str
) -> None:
    with pytest.raises(OptionInvalid) as caught:
        SD15_CANNY.resolve(EditOptions.parse(given), seed=1)
    assert caught.value.param == param
    assert says in caught.value.message


def test_a_window_without_a_model_call_is_refused(twins: Twins) -> None:
    """diffusers draws such a picture without its control image, and says nothing."""
    says = r"0\.4 to control_guidance_end 0\.6 holds no whole model call of 3: take them"
    with pytest.raises(OptionInvalid, match=says) as caught:
        twins.loop().check(twins.request(edit(**window(0.4, 0.6))))
    assert caught.value.param == "control_guidance_start"
    twins.loop().check(twins.request(edit(**window(0.3, 0.7))))
