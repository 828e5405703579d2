"""Several models behind one address: who edits, what each can, whose queue is full."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from engine.edit import EditOutcome, EditRequest
from engine.errors import EngineError, OptionInvalid, Overloaded
from engine.registry import find_model
from engine.spec import ModelSpec
from serve_app.config import ServeConfig
from serve_app.ingress.admission import Admission
from serve_app.ingress.api import make_app
from serve_app.ingress.model_queue import Limits
from serve_app.ingress.models import ServedModel
from serve_app.ingress.record import EditRecord
from serve_app.ingress.service import EditService
from serve_app.schemas import ModelStatus
from serve_app.served import find_models, names_of
from tests.serve_app.conftest import Mirror, post_form
from tests.serve_app.local import over_http
from tests.serve_app.test_refusals import check_error

SMALL = {"resolution": 64, "determinism": "strict"}
MODELS: dict[str, Any] = {
    "engine": SMALL,
    "decode_workers": 1,
    "models": {"pocket": {}, "portraits": {"engine": {"model": "pocket", "max_batch_size": 2}}},
    "aliases": {"gpt-image-1": "portraits"},
}


class Counting(Mirror):
    """Notes which edits came."""

    def __init__(self) -> None:
        self.came: list[EditRequest] = []

    async def edit(self, request: EditRequest) -> EditOutcome:
        self.came.append(request)
        return await super().edit(request)


class Two:
    """A server of `MODELS`, with a model of no image guidance as the second."""

    def __init__(self, pocket: ModelSpec) -> None:
        options = frozenset({"guidance_scale"})
        defaults = {"num_inference_steps": 4, "guidance_scale": 2.5}
        plain = replace(pocket, guidance="embedded", options=options, defaults=defaults)
        self.backends = Counting(), Counting()
        served = [
            ServedModel("pocket", pocket, self.backends[0]),
            ServedModel("portraits", plain, self.backends[1]),
        ]
        self.statuses: dict[str, ModelStatus] = {"pocket": "ready", "portraits": "idle"}
        self.service = EditService(ServeConfig.of(MODELS), served)
        self.service.statuses = self.status

    async def status(self) -> dict[str, ModelStatus]:
        return self.statuses

    def came(self) -> tuple[int, int]:
        """How many edits each model got."""
        return len(self.backends[0].came), len(self.backends[1].came)


@pytest.fixture(scope="module")
def two(pocket: ModelSpec) -> Iterator[Two]:
    found = Two(pocket)
    yield found
    found.service.close()


@pytest.fixture(scope="module")
def both(two: Two) -> Iterator[httpx.Client]:
    with (
        over_http(make_app(two.service)) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("sent", "model"),
    [
        ({}, "pocket"),
        ({"model": "pocket"}, "pocket"),
        ({"model": "portraits"}, "portraits"),
        ({"model": "gpt-image-1"}, "portraits"),
    ],
)
def test_an_edit_is_made_by_the_model_that_it_names(
    both: httpx.Client, two: Two, photographs: dict[str, bytes], sent: dict[str, str], model: str
) -> None:
    before = two.came()
    answer = post_form(both, photographs["coffee"], **sent)
    assert (answer.status_code, answer.json()["model"]) == (200, model)
    got = [now - then for now, then in zip(two.came(), before, strict=True)]
    assert got == [model == "pocket", model == "portraits"]


def test_a_model_that_is_not_served_is_refused_with_those_that_are_the_nearest_first(
    both: httpx.Client, photographs: dict[str, bytes]
) -> None:
    answer = post_form(both, photographs["coffee"], model="portrait")
    message = check_error(answer, 404, "model_not_found", "model")
    assert 'send "portraits" or "pocket", or leave model out for "pocket"' in message
    assert 'send "pocket" or "portraits"' in both.get("/v1/models/poket").json()["error"]["message"]


def test_every_model_is_listed_with_its_own_options_its_defaults_and_its_status(
    both: httpx.Client, pocket: ModelSpec
) -> None:
    first, portraits = both.get("/v1/models").json()["data"]
    assert (first["id"], portraits["id"]) == ("pocket", "portraits")
    assert "image_guidance_scale" in first["options"]
    assert "image_guidance_scale" not in portraits["options"]
    assert (first["defaults"], first["status"]) == (pocket.defaults, "ready")
    assert (portraits["defaults"]["num_inference_steps"], portraits["status"]) == (4, "idle")
    assert both.get("/v1/models/gpt-image-1").json() == portraits


def test_what_only_another_model_has_is_refused(
    both: httpx.Client, photographs: dict[str, bytes]
) -> None:
    scale = {"image_guidance_scale": 2}
    assert post_form(both, photographs["coffee"], model="pocket", **scale).status_code == 200
    refused = post_form(both, photographs["coffee"], model="portraits", **scale)
    check_error(refused, 400, "option_invalid", "image_guidance_scale")


def test_a_server_is_ready_while_one_of_its_models_is(both: httpx.Client, two: Two) -> None:
    answer = both.get("/readyz")
    assert (answer.status_code, answer.json()["models"]) == (200, two.statuses)
    two.statuses = {"pocket": "failed", "portraits": "starting"}
    try:
        refused = both.get("/readyz")
    finally:
        two.statuses = {"pocket": "ready", "portraits": "idle"}
    assert "pocket failed, portraits starting" in check_error(refused, 503, "not_ready", None)


def test_a_full_queue_of_one_model_refuses_no_edit_by_another() -> None:
    limits = {name: Limits(max_in_flight=4, min_in_flight=1, max_wait_s=5) for name in ("a", "b")}
    admission = Admission(limits, deadline_s=60, clock=lambda: 0.0)

    def joined(model: str) -> EditRecord:
        record = EditRecord(deadline_s=60)
        admission.enter(record)
        record.model = model
        admission.admit(record, 100)
        return record

    def refused(model: str) -> Overloaded:
        record = EditRecord(deadline_s=60)
        try:
            admission.enter(record)
            record.model = model
            with pytest.raises(Overloaded) as caught:
                admission.admit(record, 100)
        finally:
            admission.leave(record)
        return caught.value

    for _ in range(4):
        joined("a")
    assert "4 edits by a are in flight already" in refused("a").message
    admission.edited(EditRecord(deadline_s=60, model="a", cost=100, model_s=10))
    assert "about 40 s of work are queued ahead" in refused("a").message
    assert (admission.wait_s("a"), admission.wait_s("b")) == (pytest.approx(40), 0)
    for _ in range(4):
        joined("b")
    with pytest.raises(Overloaded, match="8 edits are in flight already") as caught:
        admission.enter(EditRecord(deadline_s=60))
    assert caught.value.retry_after_s == 60  # "b" is the sooner one, and has no rate yet


def test_what_a_model_does_not_say_stands_above() -> None:
    config = ServeConfig.of({**MODELS, "max_replicas": 3, "deadline_s": 50, "num_cpus": 2})
    pocket, portraits = (config.of_model(name) for name in config.models)
    assert (pocket.engine.model, portraits.engine.model) == ("pocket", "pocket")
    assert (pocket.engine.max_batch_size, portraits.engine.max_batch_size) == (4, 2)
    for one in (pocket, portraits):
        assert (one.engine.resolution, one.max_replicas, one.num_cpus) == (64, 3, 2)
        assert (one.deadline_s, one.models) == (50, {})
    first, second = find_models(config)
    assert (first.name, first.spec.name, first.application) == ("pocket", "pocket", "pocket")
    assert (second.name, second.spec.name) == ("portraits", "pocket")
    assert second.spec.identity() == find_model("pocket", resolution=64).identity()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"models": {"a/b": {}, "a-b": {}}}, '"a-b" and a/b are one name to Serve'),
        ({"models": {"rayedit": {}}}, "rayedit"),
        ({"models": {"pocket": {"min_replicas": 2}}}, "models.pocket: .*is more than max_replicas"),
        ({"models": {"pocket": {"engin": {}}}}, 'models.pocket.engin". Did you mean "engine"'),
        ({"models": {"pocket": {"deadline_s": 5}}}, "models.pocket.deadline_s"),
        ({"models": {"no model": {}}}, "no model"),
        ({"models": {"pocket": {}}, "engine": {"model": "a"}}, 'engine.model "a" stands beside'),
        ({"models": {"pocket": {}}, "aliases": {"a": "pokket"}}, 'Did you mean "pocket"'),
        ({"models": {"a": {"engine": {"model": "no-such"}}}}, 'models.a: there is no model "no-s'),
        ({"aliases": {"gpt-image-1": "pokket"}}, 'Did you mean "pocket"'),
    ],
)
def test_a_mistake_among_the_models_is_named(given: dict[str, Any], says: str) -> None:
    with pytest.raises(EngineError, match=says):
        find_models(ServeConfig.of(given))


def test_aliases_are_a_list_for_the_first_model_or_each_has_its_own() -> None:
    served = ["pocket", "portraits"]
    named = {"pocket": "pocket", "portraits": "portraits"}
    listed = ServeConfig.of({"aliases": ["a", "b"]})
    assert names_of(listed, served) == {**named, "a": "pocket", "b": "pocket"}
    assert names_of(ServeConfig.of(MODELS), served) == {**named, "gpt-image-1": "portraits"}
    with pytest.raises(OptionInvalid, match="pocket"):
        names_of(ServeConfig.of({"aliases": {"pocket": "portraits"}}), served)


def test_the_statuses_of_several_models_are_asked_for_and_of_one_its_replica(
    pocket: ModelSpec,
) -> None:
    service = EditService(ServeConfig(decode_workers=1), [ServedModel("pocket", pocket, Mirror())])
    with pytest.raises(EngineError, match="nobody asks"):
        asyncio.run(service.ready())
    service.close()


def test_a_batch_is_for_any_of_the_models_as_each_is_served(
    pocket: ModelSpec, tmp_path: Path
) -> None:
    config = ServeConfig.of({**MODELS, "files_uri": str(tmp_path)})
    service = EditService(
        config, [ServedModel(name, pocket, Mirror()) for name in ("pocket", "portraits")]
    )
    with (
        over_http(make_app(service)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as sdk,
    ):
        file = sdk.files.create(file=("lines.jsonl", b"{}"), purpose="batch")
        sdk.batches.create(
            input_file_id=file.id,
            endpoint="/v1/images/edits",  # type: ignore[arg-type]
            completion_window="24h",
        )
    service.close()
    (order,) = (json.loads(path.read_text()) for path in tmp_path.rglob("order.json"))
    assert order["model"] == "pocket"
    assert order["names"] == names_of(config, ["pocket", "portraits"])
    sizes = {name: job["engine"].get("max_batch_size") for name, job in order["jobs"].items()}
    assert sizes == {"pocket": None, "portraits": 2}
