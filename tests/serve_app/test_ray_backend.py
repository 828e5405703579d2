"""What a handle of Ray Serve answers, as our answers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.exceptions import RayActorError

from engine.adapter import Adapter
from engine.edit import EditRequest, EditResult
from engine.errors import WorkerCrashed
from engine.options import EditOptions
from engine.spec import ModelSpec
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
    return RayBackend(handle, ReplicaWait("pocket", unasked), batch_size=4)


def test_where_a_replica_has_just_died_another_is_asked_whether_it_is_ready() -> None:
    assert asyncio.run(backend_of(RayActorError(), READY).ready()) == READY
    with pytest.raises(WorkerCrashed):
        asyncio.run(backend_of(RayActorError(), RayActorError(), READY).ready())


def test_edits_with_a_lora_go_to_where_it_is_until_a_batch_of_them_is_on_its_way(
    pocket: ModelSpec,
) -> None:
    plain = EditRequest("a", np.zeros((8, 8, 3), np.uint8), "", pocket.resolve(EditOptions(), 0))
    ink, film = (replace(plain, adapter=Adapter(name, "", "")) for name in ("ink", "film"))
    named: list[str] = []

    class Handle:
        """Serve's, as far as an edit is sent by it: notes which LoRA the router is told."""

        def __init__(self, lora: str = "") -> None:
            self._lora = lora
            self.edit = SimpleNamespace(remote=self._edit)

        def options(self, multiplexed_model_id: str) -> Handle:
            return Handle(multiplexed_model_id)

        async def _edit(self, request: EditRequest) -> EditResult:
            named.append(self._lora)
            await asyncio.sleep(0)
            return EditResult(request.id, [request.pixels], [0])

    async def send(*requests: EditRequest) -> None:
        handle: Any = Handle()
        backend = RayBackend(handle, ReplicaWait("pocket", unasked), batch_size=2)
        await asyncio.gather(*map(backend.edit, requests))
        await backend.edit(ink)  # the others are done

    asyncio.run(send(ink, plain, ink, film, ink))
    assert sorted(named[:5]) == ["", "", "film", "ink", "ink"] and named[5:] == ["ink"]
