"""What may join the queue, and how honest the wait is that a refusal names."""

from __future__ import annotations

import asyncio

import httpx
import numpy as np
import pytest

from engine import EditOptions
from engine.edit import EditResult
from engine.registry import ModelSpec
from serve_app.config import ServeConfig
from serve_app.errors import EditFailed
from serve_app.ingress.admission import HOLD_S, Admission, cost_of
from serve_app.ingress.api import make_app
from serve_app.ingress.flights import Flights
from serve_app.ingress.service import EditService
from tests.conftest import jpeg, photograph
from tests.serve_app.conftest import Mirror


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def refusal(admission: Admission, cost: float) -> EditFailed:
    with pytest.raises(EditFailed) as caught:
        admission.enter()
        admission.admit(cost)
    return caught.value


def test_the_work_of_an_edit_is_steps_pixels_images_and_rows(pocket: ModelSpec) -> None:
    def cost(**options: object) -> float:
        return cost_of(pocket.resolve(EditOptions.parse(options), seed=0), pocket)

    one = cost(num_inference_steps=10)
    assert one == 10 * 64 * 64 * 3
    assert cost(num_inference_steps=20, num_images=2) == 4 * one
    assert cost(num_inference_steps=10, size="128x64") == 2 * one
    assert cost(num_inference_steps=10, guidance_scale=0.0, image_guidance_scale=1.0) == one / 3


def test_a_refusal_names_the_work_ahead_over_the_rate_of_what_was_done() -> None:
    clock = Clock()
    admission = Admission(max_in_flight=100, min_held=2, max_wait_s=5, deadline_s=60, clock=clock)
    for _ in range(10):  # one edit of 100 units after another, 2 s each: 50 units a second
        admission.enter()
        admission.admit(100)
        clock.now += 2
        admission.edited(100, model_s=2)
        admission.leave(100)
    for _ in range(3):
        admission.enter()
        admission.admit(100)
    assert admission.wait_s == pytest.approx(6)
    error = refusal(admission, 100)
    assert (error.failure.status, error.failure.code) == (503, "overloaded")
    assert error.retry_after_s == 6


def test_where_every_edit_would_wait_too_long_no_body_is_read_and_admitting_looks_again() -> None:
    clock = Clock()
    admission = Admission(max_in_flight=100, min_held=2, max_wait_s=5, deadline_s=60, clock=clock)
    admission.edited(100, model_s=2)
    for _ in range(5):  # four of them read their bodies at the same time
        admission.enter()
    for _ in range(3):
        admission.admit(100)
    with pytest.raises(EditFailed, match="about 6 s of work are queued ahead"):
        admission.admit(1)
    with pytest.raises(EditFailed, match="about 6 s of work are queued ahead"):
        admission.enter()
    assert admission.held == 5


@pytest.mark.parametrize(("ingresses", "hold_s"), [(1, HOLD_S), (2, 0.0)])
def test_a_full_ingress_speaks_for_all_edits_only_where_there_is_no_other(
    pocket: ModelSpec, ingresses: int, hold_s: float
) -> None:
    async def fly() -> EditFailed:
        config = ServeConfig(ingress_replicas=ingresses, max_in_flight=1)
        flights = Flights(config, pocket, lambda *_: None)
        flight = flights.board()
        flights.enter(flight)
        flights.admit(flight, pocket.resolve(EditOptions(), seed=0))
        flights.made(flight, EditResult("", [], [], model_s=100))
        with pytest.raises(EditFailed, match="in flight already") as caught:
            flights.enter(flights.board())
        return caught.value

    assert asyncio.run(fly()).hold_s == hold_s


def test_nothing_is_refused_for_its_wait_before_a_rate_is_known() -> None:
    admission = Admission(max_in_flight=10, min_held=0, max_wait_s=0.001, deadline_s=60)
    for _ in range(10):
        admission.enter()
        admission.admit(1e12)
    assert refusal(admission, 1).retry_after_s == 60  # the eleventh has no place until then


def test_the_time_that_a_replica_took_to_start_does_not_slow_the_rate() -> None:
    clock = Clock()
    admission = Admission(max_in_flight=10, min_held=0, max_wait_s=5, deadline_s=60, clock=clock)
    for _ in range(4):
        admission.enter()
        admission.admit(100)
    clock.now += 60
    admission.edited(100, model_s=1)
    admission.leave(100)
    assert admission.wait_s == pytest.approx(3)


def test_edits_that_are_made_together_count_once_in_the_time() -> None:
    clock = Clock()
    admission = Admission(max_in_flight=10, min_held=0, max_wait_s=5, deadline_s=60, clock=clock)
    for _ in range(8):
        admission.enter()
        admission.admit(100)
    clock.now += 4
    for _ in range(4):
        admission.edited(100, model_s=4)
        admission.leave(100)
    assert admission.wait_s == pytest.approx(4)


def test_two_batches_are_held_however_long_they_take() -> None:
    admission = Admission(max_in_flight=10, min_held=2, max_wait_s=1, deadline_s=60, clock=Clock())
    admission.edited(10, model_s=1)
    for _ in range(2):
        admission.enter()
        admission.admit(100)
    assert "queued ahead" in refusal(admission, 100).failure.message


def test_an_edit_that_cannot_be_done_by_its_deadline_waits_for_nobody() -> None:
    admission = Admission(max_in_flight=10, min_held=8, max_wait_s=5, deadline_s=60, clock=Clock())
    admission.edited(10, model_s=1)
    admission.enter()
    admission.admit(700)  # alone: the rate may be wrong, and nobody waits behind it
    error = refusal(admission, 1)
    assert (error.failure.status, error.retry_after_s) == (503, 70)
    assert "more than the 60 s it may" in error.failure.message
    admission.leave(0)
    admission.leave(700)
    admission.enter()
    admission.admit(300)
    admission.enter()
    admission.admit(290)
    assert "about 61 s" in refusal(admission, 20).failure.message


def test_edits_that_wait_for_a_decoder_are_refused_too(pocket: ModelSpec) -> None:
    """One step each, and the encoding of a large photograph: the model is not what they wait for"""
    photo = jpeg(np.tile(photograph("coffee"), (5, 5, 1)))
    config = ServeConfig.of(
        {"engine.max_batch_size": 1, "decode_workers": 1, "max_wait_s": 0.5, "ingress_replicas": 1}
    )

    async def edit() -> list[httpx.Response]:
        service = EditService(config, pocket, Mirror())
        transport = httpx.ASGITransport(make_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            form = {"prompt": "x", "num_inference_steps": "1", "restore_size": "true"}

            async def post() -> httpx.Response:
                files = {"image": ("a.jpg", photo)}
                return await client.post("/v1/images/edits", data=form, files=files)

            answers = [await post()]
            answers += await asyncio.gather(*[post() for _ in range(7)])
        service.close()
        return answers

    answers = asyncio.run(edit())
    refused = [answer for answer in answers if answer.status_code == 503]
    assert {answer.status_code for answer in answers} == {200, 503}
    assert len(refused) == 5
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
