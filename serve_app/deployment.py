"""The two Ray Serve deployments: `EditReplica` holds the model, `EditIngress` speaks HTTP."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
)
from ray.serve.handle import DeploymentHandle

from engine.config import EngineConfig
from engine.edit import EditOutcome, EditRequest
from engine.errors import InternalError, NotReady, Overloaded, WorkerCrashed
from engine.registry import ModelSpec
from serve_app.api import make_app
from serve_app.config import ServeConfig
from serve_app.schemas import Readiness
from serve_app.service import EditService


def max_ongoing_requests(config: EngineConfig) -> int:
    """Edits that one replica holds: the batch that runs, the one that is ready to follow, and room
    for `ready`."""
    return 2 * config.max_batch_size + 8


class EditReplica:
    """One `EditActor`, loaded once. Nothing raises for an edit: outcomes are values."""

    def __init__(self, config: EngineConfig, spec: ModelSpec) -> None:
        from engine.actor import EditActor

        self._actor = EditActor(config, spec)
        self._open: set[str] = set()  # ids whose caller still waits
        self._admit.set_max_batch_size(max_ongoing_requests(config))

    async def edit(self, request: EditRequest) -> EditOutcome:
        """The outcome of one edit; when the caller is gone, so is the edit."""
        self._open.add(request.id)
        try:
            admitted: Future[EditOutcome] = await self._admit(request)
            return await asyncio.shield(asyncio.wrap_future(admitted))
        except asyncio.CancelledError:
            self._actor.cancel(request.id)
            raise
        finally:
            self._open.discard(request.id)

    @serve.batch(batch_wait_timeout_s=0.0)
    async def _admit(self, requests: list[EditRequest]) -> list[Future[EditOutcome]]:
        """Hand over what arrived together; each future resolves on its own."""
        futures = await asyncio.to_thread(self._actor.submit, requests)
        for request in requests:
            if request.id not in self._open:  # its caller left while it was handed over
                self._actor.cancel(request.id)
        return futures

    async def ready(self) -> Readiness:
        """Answers when the model is loaded."""
        actor = self._actor
        return Readiness(model=actor.spec.name, revision=actor.revision, in_flight=actor.in_flight)

    def check_health(self) -> None:
        """Raises when the denoising thread is gone, so that Serve replaces this replica."""
        if not self._actor.alive:
            raise RuntimeError("the denoising thread has died")

    def __del__(self) -> None:
        if hasattr(self, "_actor"):
            self._actor.close()


class ReplicaBackend:
    """`EditReplica`s behind a handle, their deaths and absence as our errors."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def edit(self, request: EditRequest) -> EditOutcome:
        return await _answer(self._handle.edit.remote(request))

    async def ready(self) -> Readiness:
        return await _answer(self._handle.ready.remote())


async def _answer(response: Any) -> Any:
    """The value of a `DeploymentResponse`; cancelled with its caller. Raises `TransientError`."""
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise
    except BackPressureError as error:
        raise Overloaded("the model replicas have no place left; try again later") from error
    except (DeploymentUnavailableError, ReplicaUnavailableError) as error:
        raise NotReady("no model replica is available; try again later") from error
    except RayActorError as error:
        raise WorkerCrashed("the process that ran the edit died; send it again") from error
    except RayError as error:
        raise InternalError(f"{type(error).__name__}: {error}") from error


class EditIngress:
    """Thin: parses, decodes, asks a replica, encodes. Loads no torch."""

    def __init__(self, config: ServeConfig, spec: ModelSpec, replicas: DeploymentHandle) -> None:
        self._service = EditService(config, spec, ReplicaBackend(replicas))
        self._service.warm_up()

    def __serve_build_asgi_app__(self) -> FastAPI:
        return make_app(self._service)

    def __del__(self) -> None:
        if hasattr(self, "_service"):
            self._service.close()


def build(config: ServeConfig, spec: ModelSpec) -> serve.Application:
    """The application graph: ingress -> model replicas."""
    engine = config.engine
    replicas = (
        serve.deployment(EditReplica)
        .options(
            ray_actor_options={"num_cpus": config.num_cpus, "num_gpus": config.num_gpus},
            autoscaling_config=config.autoscaling,
            max_ongoing_requests=max_ongoing_requests(engine),
            graceful_shutdown_timeout_s=config.deadline_s + 5,
            graceful_shutdown_wait_loop_s=0.5,
            health_check_period_s=5,
        )
        .bind(engine, spec)
    )
    ingress = serve.deployment(serve.ingress()(EditIngress)).options(
        num_replicas=config.ingress_replicas,
        ray_actor_options={"num_cpus": 0.5},
        # the service refuses above max_in_flight; the rest is for the other routes
        max_ongoing_requests=config.max_in_flight + 100,
        graceful_shutdown_timeout_s=config.deadline_s + 5,
        graceful_shutdown_wait_loop_s=0.5,
    )
    return ingress.bind(config, spec, replicas)
