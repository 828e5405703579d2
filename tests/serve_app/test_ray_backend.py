"""What a handle of Ray Serve answers, as our answers."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayActorError

from engine.errors import WorkerCrashed
from serve_app.ingress.ray_backend import RayBackend
from serve_app.ingress.replica_wait import ReplicaWait
from serve_app.schemas import ModelStatus, Readiness

READY = Readiness(model="pocket", revision="1", in_flight=0)


async def unasked() -> ModelStatus:
    raise AssertionError


def backend_of(*answers: object) -> RayBackend:
    """Behind a handle whose replicas give these answers in turn."""
    left = iter(answers)

    async def ready() -> Any:
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    handle: Any = SimpleNamespace(ready=SimpleNamespace(remote=ready))
    return RayBackend(handle, ReplicaWait("pocket", unasked))


def test_where_a_replica_has_just_died_another_is_asked_whether_it_is_ready() -> None:
    assert asyncio.run(backend_of(RayActorError(), READY).ready()) == READY
    with pytest.raises(WorkerCrashed):
        asyncio.run(backend_of(RayActorError(), RayActorError(), READY).ready())
