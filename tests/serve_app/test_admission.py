"""What may join the queue, and how honest the wait is that a refusal names."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import numpy as np
import pytest

from engine.edit import EditOutcome, EditRequest
from engine.errors import DeadlineExceeded, EngineError, Overloaded
from engine.options import EditOptions
from engine.spec import ModelSpec
from serve_app.config import ServeConfig
from serve_app.error_response import error_response
from serve_app.ingress.admission import Admission, cost_of
from serve_app.ingress.api import make_app
from serve_app.ingress.model_queue import Limits
from serve_app.ingress.record import EditRecord
from tests.conftest import jpeg, photograph
from tests.serve_app.conftest import Mirror, service_of


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def admission_of(
    *, max_in_flight: int, min_in_flight: int, max_wait_s: float, deadline_s: float, **others: Any
) -> Admission:
    """The admission of one model."""
    limits = Limits(max_in_flight, min_in_flight, max_wait_s)
    return Admission({"pocket": limits}, deadline_s, **others)


def joined(admission: Admission, cost: float) -> EditRecord:
    """An edit of this cost that has entered and was admitted."""
    record = EditRecord(deadline_s=60, model="pocket")
    admission.enter(record)
    admission.admit(record, cost)
    return record


def made(admission: Admission, cost: float, model_s: float) -> None:
    """The model has made an edit of this cost."""
    admission.edited(EditRecord(deadline_s=60, model="pocket", cost=cost, model_s=model_s))


def refusal(admission: Admission, cost: float) -> Overloaded:
    with pytest.raises(Overloaded) as caught:
        joined(admission, cost)
    return caught.value


def test_the_work_of_an_edit_is_steps_pixels_images_and_rows(pocket: ModelSpec) -> None:
    def cost(**options: object) -> float:
        return cost_of(pocket.resolve(EditOptions.parse(options), seed=0), pocket)

    one = cost(num_inference_steps=10)
    assert one == 10 * 64 * 64 * 3
    assert cost(num_inference_steps=20, num_images=2) == 4 * one
    assert cost(num_inference_steps=10, size="128x64") == 2 * one
    assert cost(num_inference_steps=10, guidance_scale=0.0, image_guidance_scale=1.0) == one / 3


@pytest.mark.parametrize("way", ["on", "fast"])
def test_an_edit_whose_guidance_sets_itself_is_counted_with_the_tries_that_such_take(
    pocket: ModelSpec, way: str
) -> None:
    def cost(**options: object) -> float:
        return cost_of(pocket.resolve(EditOptions.parse(options), seed=0), pocket)

    far = {"guidance_scale": 0.5, "image_guidance_scale": 2.5}
    assert cost(auto_guidance=way) == pytest.approx(1.1 * cost())
    assert cost(auto_guidance=way, **far) == pytest.approx(2 * cost(**far))


def test_a_refusal_names_the_work_ahead_over_the_rate_of_what_was_done() -> None:
    clock = Clock()
    admission = admission_of(
        max_in_flight=100, min_in_flight=2, max_wait_s=5, deadline_s=60, clock=clock
    )
    for _ in range(10):  # one edit of 100 units after another, 2 s each: 50 units a second
        record = joined(admission, 100)
        clock.now += 2
        made(admission, 100, model_s=2)
        admission.leave(record)
    for _ in range(3):
        joined(admission, 100)
    assert admission.wait_s("pocket") == pytest.approx(6)
    assert refusal(admission, 100).retry_after_s == 6


def test_where_every_edit_would_wait_too_long_no_body_is_read_and_admitting_looks_again() -> None:
    clock = Clock()
    admission = admission_of(
        max_in_flight=100, min_in_flight=2, max_wait_s=5, deadline_s=60, clock=clock
    )
    made(admission, 100, model_s=2)
    records = [EditRecord(deadline_s=60, model="pocket") for _ in range(6)]
    for record in records[:5]:  # four of them read their bodies at the same time
        admission.enter(record)
    for record in records[:3]:
        admission.admit(record, 100)
    with pytest.raises(Overloaded, match="about 6 s of work are queued ahead"):
        admission.admit(records[3], 1)
    with pytest.raises(Overloaded, match="about 6 s of work are queued ahead"):
        admission.enter(records[5])
    assert admission.in_flight == 5
    for record in records:  # the last of them never had a place
        admission.leave(record)
    assert (admission.in_flight, admission.wait_s("pocket")) == (0, 0)


def test_nothing_is_refused_for_its_wait_before_a_rate_is_known() -> None:
    admission = admission_of(max_in_flight=10, min_in_flight=0, max_wait_s=0.001, deadline_s=60)
    for _ in range(10):
        joined(admission, 1e12)
    assert refusal(admission, 1).retry_after_s == 60  # the eleventh has no place until then


def test_the_time_that_a_replica_took_to_start_does_not_slow_the_rate() -> None:
    clock = Clock()
    admission = admission_of(
        max_in_flight=10, min_in_flight=0, max_wait_s=5, deadline_s=60, clock=clock
    )
    records = [joined(admission, 100) for _ in range(4)]
    clock.now += 60
    made(admission, 100, model_s=1)
    admission.leave(records[0])
    assert admission.wait_s("pocket") == pytest.approx(3)


def test_edits_that_are_made_together_count_once_in_the_time() -> None:
    clock = Clock()
    admission = admission_of(
        max_in_flight=10, min_in_flight=0, max_wait_s=5, deadline_s=60, clock=clock
    )
    records = [joined(admission, 100) for _ in range(8)]
    clock.now += 4
    for record in records[:4]:
        made(admission, 100, model_s=4)
        admission.leave(record)
    assert admission.wait_s("pocket") == pytest.approx(4)


def test_two_batches_are_held_however_long_they_take() -> None:
    admission = admission_of(
        max_in_flight=10, min_in_flight=2, max_wait_s=1, deadline_s=60, clock=Clock()
    )
    made(admission, 10, model_s=1)
    for _ in range(2):
        joined(admission, 100)
    assert "queued ahead" in refusal(admission, 100).message


def test_an_edit_that_cannot_be_done_by_its_deadline_waits_for_nobody() -> None:
    admission = admission_of(
        max_in_flight=10, min_in_flight=8, max_wait_s=5, deadline_s=60, clock=Clock()
    )
    made(admission, 10, model_s=1)
    alone = joined(admission, 700)  # the rate may be wrong, and it gives way to all others
    assert admission.wait_s("pocket") == 0
    admission.leave(joined(admission, 1))
    with pytest.raises(Overloaded, match="more than the 60 s it may"):
        joined(admission, 700)
    admission.leave(alone)
    joined(admission, 300)
    joined(admission, 290)
    assert "about 61 s" in refusal(admission, 20).message


def test_nothing_outlives_its_deadline_so_nobody_waits_longer_than_what_is_left_of_it() -> None:
    admission = admission_of(
        max_in_flight=100, min_in_flight=2, max_wait_s=5, deadline_s=60, clock=Clock()
    )
    made(admission, 10, model_s=1)
    records = [joined(admission, 20), joined(admission, 20)]
    for record in records:
        record.started_s -= 59  # a second is left of each
    assert admission.wait_s("pocket") == pytest.approx(1, abs=0.5)
    joined(admission, 500)  # 50 s alone, 60 with its own deadline
    assert refusal(admission, 1).retry_after_s in (51, 52)


def test_an_edit_that_was_late_though_nobody_shared_the_machine_is_not_to_be_tried_again() -> None:
    admission = admission_of(
        max_in_flight=100, min_in_flight=2, max_wait_s=5, deadline_s=60, clock=Clock()
    )

    def late(record: EditRecord) -> EngineError:
        error = DeadlineExceeded("late")
        admission.leave(record, error)
        return error

    assert error_response(late(joined(admission, 10))).headers["x-should-retry"] == "false"
    first, second = joined(admission, 10), joined(admission, 10)
    for record in (first, second):
        assert "x-should-retry" not in error_response(late(record)).headers
    made(admission, 10, model_s=1)
    first, second = joined(admission, 601), joined(admission, 10)
    assert error_response(late(first)).headers["x-should-retry"] == "false"  # not even alone
    assert "x-should-retry" not in error_response(late(second)).headers


class Endless(Mirror):
    """A backend whose edits are never done."""

    async def edit(self, request: EditRequest) -> EditOutcome:
        await asyncio.Event().wait()
        raise AssertionError


def test_the_504_of_an_edit_alone_tells_the_sdk_not_to_retry(
    pocket: ModelSpec, photographs: dict[str, bytes]
) -> None:
    async def answers(count: int) -> list[httpx.Response]:
        service = service_of(ServeConfig(decode_workers=1, deadline_s=2), pocket, Endless())
        service.warm_up()
        transport = httpx.ASGITransport(make_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            files = {"image": ("a.jpg", photographs["coffee"])}
            sent = [
                client.post("/v1/images/edits", data={"prompt": "x"}, files=files)
                for _ in range(count)
            ]
            found = await asyncio.gather(*sent)
        service.close()
        return found

    for count, told in ((1, "false"), (2, None)):
        for answer in asyncio.run(answers(count)):
            assert answer.status_code == 504
            assert answer.headers.get("x-should-retry") == told


def test_twenty_edits_at_once_pass_the_admission_of_a_busy_cpu_and_not_of_a_gpu() -> None:
    def admitted(**settings: object) -> int:
        config = ServeConfig.of(settings)
        limits = {"pocket": Limits.of(config)}
        admission = Admission(limits, config.deadline_s, clock=Clock())
        made(admission, 10, model_s=1)  # a third of what two idle cores do
        for count in range(20):
            try:
                joined(admission, 10)
            except Overloaded:
                return count
        return 20

    assert admitted() == 20
    assert admitted(num_gpus=1) == 8  # ten times slower than any GPU: 5 s, or two batches
    assert admitted(max_wait_s=5) == 8


def test_a_malformed_edit_is_told_so_where_a_good_one_would_have_to_wait(
    pocket: ModelSpec, photographs: dict[str, bytes]
) -> None:
    """As long as its body is small: a large one is not read for it."""
    config = ServeConfig.of({"engine.max_batch_size": 1, "decode_workers": 1, "max_wait_s": 0.001})
    good = {"image": ("a.jpg", photographs["coffee"])}
    url = {"image_url": "https://example.com/a.jpg"}
    sent: list[tuple[int, dict[str, Any]]] = [
        (503, {"data": {"prompt": "x"}, "files": good}),
        (400, {"data": {"prompt": "x", "seed": "-1"}, "files": good}),
        (400, {"data": {"prompt": ""}, "files": good}),
        (400, {"data": {"prompt": "x"}, "files": {"image": ("a.jpg", b"no picture")}}),
        (400, {"json": {"prompt": "x", "images": [url]}}),
        (404, {"data": {"prompt": "x", "model": "other"}, "files": good}),
        (415, {"content": b"x"}),
        (503, {"data": {"prompt": "x", "seed": "-1"}, "files": {"image": ("a", bytes(2**20))}}),
    ]

    async def answers() -> list[int]:
        service = service_of(config, pocket, Mirror())
        transport = httpx.ASGITransport(make_app(service))
        made(service._admission, 10, model_s=1)
        held = [joined(service._admission, 100) for _ in range(2)]
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            found = [
                (await client.post("/v1/images/edits", **fields)).status_code for _, fields in sent
            ]
        for record in held:
            service._admission.leave(record)
        service.close()
        return found

    assert asyncio.run(answers()) == [status for status, _ in sent]


def test_what_is_in_flight_is_told_when_it_comes_and_not_only_when_it_ends() -> None:
    told: list[tuple[int, bool]] = []
    admission = admission_of(
        max_in_flight=10,
        min_in_flight=8,
        max_wait_s=5,
        deadline_s=60,
        observe=lambda record, in_flight, _: told.append((in_flight, record.has_ended)),
    )
    joined(admission, 100)
    admission.leave(joined(admission, 100))
    assert told == [(1, False), (1, False), (2, False), (2, False), (1, True)]


def test_edits_that_wait_for_a_decoder_are_refused_too(pocket: ModelSpec) -> None:
    """One step each, and the encoding of a large photograph: the model is not what they wait for"""
    photo = jpeg(np.tile(photograph("coffee"), (5, 5, 1)))
    config = ServeConfig.of(
        {"engine.max_batch_size": 1, "decode_workers": 1, "max_wait_s": 0.5, "ingress_replicas": 1}
    )

    async def edit() -> list[httpx.Response]:
        service = service_of(config, pocket, Mirror())
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
