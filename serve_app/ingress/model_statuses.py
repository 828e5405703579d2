"""What Ray Serve tells of the replicas of each model: one is there, one starts, none can."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from ray import serve
from ray.exceptions import RayError
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import (
    ApplicationStatus,
    ApplicationStatusOverview,
    DeploymentStatus,
    DeploymentStatusTrigger,
    ReplicaState,
)

from serve_app.schemas import ModelStatus

PERIOD_S = 1.0  # within which the controller is asked once, however many want to know
TIMEOUT_S = 5.0  # for its answer


class ModelStatuses:
    """Asks Serve's controller for the status of every model; `handles`: by the models' names."""

    def __init__(self, handles: Mapping[str, DeploymentHandle]) -> None:
        self._handles = handles
        self._found: dict[str, ModelStatus] = {}
        self._asked_s = -PERIOD_S
        self._one_asks = asyncio.Lock()

    async def all(self) -> dict[str, ModelStatus]:
        """Tell the status of every model, as it was within `PERIOD_S`; starts no replica."""
        async with self._one_asks:
            if time.monotonic() - self._asked_s >= PERIOD_S:
                try:
                    async with asyncio.timeout(TIMEOUT_S):
                        applications = (await asyncio.to_thread(serve.status)).applications
                except (RayError, TimeoutError):  # the controller restarts, or the machine is busy
                    return self._found
                self._found = {
                    name: status_of(applications.get(handle.app_name), handle.deployment_name)
                    for name, handle in self._handles.items()
                }
                self._asked_s = time.monotonic()
        return self._found

    async def of(self, model: str) -> ModelStatus:
        """Tell the status of one model; `starting` where nobody tells."""
        return (await self.all()).get(model, "starting")


def status_of(application: ApplicationStatusOverview | None, deployment: str) -> ModelStatus:
    """Read the status of a model from what Serve says of the application that has its replicas."""
    if application is None:
        return "failed"  # nobody has deployed it
    found = application.deployments.get(deployment)
    if found is None:
        return "failed" if application.status == ApplicationStatus.DEPLOY_FAILED else "starting"
    if found.replica_states.get(ReplicaState.RUNNING, 0):
        return "ready"
    if found.replica_states.get(ReplicaState.STARTING, 0):
        return "starting"
    match found.status:
        case DeploymentStatus.DEPLOY_FAILED:
            return "failed"
        case DeploymentStatus.UNHEALTHY:
            has_died = found.status_trigger == DeploymentStatusTrigger.HEALTH_CHECK_FAILED
            return "starting" if has_died else "failed"
        case DeploymentStatus.UPDATING | DeploymentStatus.UPSCALING:
            return "starting"
    return "idle"


def failure_of(application: ApplicationStatusOverview | None) -> str:
    """Find what a replica said when it could not start, the last line of its traceback; empty where
    nothing is said."""
    if application is None:
        return ""
    messages = [each.message for each in application.deployments.values() if each.message]
    lines = "\n".join(messages or [application.message]).splitlines()
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else ""
