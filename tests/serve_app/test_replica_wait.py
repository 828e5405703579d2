"""The wait for replicas that are not there: what is said of it, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import repeat

import pytest
from ray.serve.schema import (
    ApplicationStatus,
    ApplicationStatusOverview,
    DeploymentStatus,
    DeploymentStatusOverview,
    DeploymentStatusTrigger,
    ReplicaState,
)

from engine.errors import NotReady
from serve_app.error_response import error_response
from serve_app.ingress import replica_wait
from serve_app.ingress.model_statuses import failure_of, status_of
from serve_app.ingress.replica_wait import ReplicaWait
from serve_app.schemas import ModelStatus

RUNNING, STARTING, STOPPING = ReplicaState.RUNNING, ReplicaState.STARTING, ReplicaState.STOPPING


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_wait, "LOOK_S", 0.01)


def waiting(statuses: Sequence[ModelStatus]) -> ReplicaWait:
    """For a model that has these statuses, the last one for ever."""
    told: Iterator[ModelStatus] = iter([*statuses, *repeat(statuses[-1], 10_000)])

    async def status() -> ModelStatus:
        return next(told)

    return ReplicaWait("kontext", status)


async def after(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "edited"


def test_an_answer_that_takes_long_is_waited_for() -> None:
    for statuses in (["ready"], ["idle", "starting", "ready"]):
        assert asyncio.run(waiting(statuses).answer(after(0.2), 60)) == "edited"


def test_an_edit_whose_model_cannot_be_loaded_is_told_at_once_and_not_to_come_back() -> None:
    wait = waiting(["starting", "starting", "failed"])
    with pytest.raises(NotReady, match="model kontext cannot be loaded") as caught:
        asyncio.run(wait.answer(after(3600), 60))
    assert error_response(caught.value).headers["x-should-retry"] == "false"


def test_an_edit_that_no_replica_comes_for_in_time_is_told_when_to_come_back() -> None:
    wait = waiting(["idle", "starting"])
    with pytest.raises(NotReady, match=r"kontext is starting.* try again in 10 s") as caught:
        asyncio.run(wait.answer(after(3600), replica_wait.MARGIN_S + 0.1))
    response = error_response(caught.value)
    assert (response.status_code, response.headers["retry-after"]) == (503, "10")
    assert "x-should-retry" not in response.headers


def test_what_serve_refuses_of_a_model_that_cannot_be_loaded_says_so() -> None:
    async def refused() -> str:
        raise NotReady("no model replica is available")

    with pytest.raises(NotReady, match="cannot be loaded"):
        asyncio.run(waiting(["failed"]).answer(refused(), 60))
    with pytest.raises(NotReady, match="no model replica"):
        asyncio.run(waiting(["starting"]).answer(refused(), 60))


def test_an_edit_whose_caller_leaves_is_cancelled() -> None:
    left = []

    async def edit() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            left.append("cancelled")
            raise

    async def leave() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await waiting(["ready"]).answer(edit(), None)

    asyncio.run(leave())
    assert left == ["cancelled"]


def application(
    status: DeploymentStatus,
    replicas: dict[ReplicaState, int],
    trigger: DeploymentStatusTrigger = DeploymentStatusTrigger.AUTOSCALING,
    message: str = "",
) -> ApplicationStatusOverview:
    deployment = DeploymentStatusOverview(status, trigger, replicas, message)
    return ApplicationStatusOverview(ApplicationStatus.RUNNING, "", 0.0, {"Model": deployment})


DIED = DeploymentStatusTrigger.HEALTH_CHECK_FAILED
FAILED = DeploymentStatusTrigger.REPLICA_STARTUP_FAILED


@pytest.mark.parametrize(
    ("application", "status"),
    [
        (None, "failed"),
        (application(DeploymentStatus.HEALTHY, {RUNNING: 1}), "ready"),
        (application(DeploymentStatus.UNHEALTHY, {RUNNING: 1, STARTING: 1}), "ready"),
        (application(DeploymentStatus.UPDATING, {STARTING: 1}), "starting"),
        (application(DeploymentStatus.UPSCALING, {}), "starting"),
        (application(DeploymentStatus.UNHEALTHY, {STARTING: 1}, DIED), "starting"),
        (application(DeploymentStatus.UNHEALTHY, {STOPPING: 1}, DIED), "starting"),
        (application(DeploymentStatus.UNHEALTHY, {}, FAILED), "failed"),
        (application(DeploymentStatus.DEPLOY_FAILED, {}, FAILED), "failed"),
        (application(DeploymentStatus.HEALTHY, {}), "idle"),
        (application(DeploymentStatus.DOWNSCALING, {STOPPING: 1}), "idle"),
        (ApplicationStatusOverview(ApplicationStatus.DEPLOYING, "", 0.0, {}), "starting"),
        (ApplicationStatusOverview(ApplicationStatus.DEPLOY_FAILED, "", 0.0, {}), "failed"),
    ],
)
def test_a_status_of_serve_is_one_of_four(
    application: ApplicationStatusOverview | None, status: ModelStatus
) -> None:
    assert status_of(application, "Model") == status


def test_the_reason_is_the_last_line_of_what_a_replica_said() -> None:
    said = "Traceback\n  File x\nengine.errors.ModelError: model a cannot be loaded\n\n"
    found = application(DeploymentStatus.DEPLOY_FAILED, {}, FAILED, said)
    assert failure_of(found) == "engine.errors.ModelError: model a cannot be loaded"
    assert failure_of(None) == ""
