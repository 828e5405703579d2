"""Jobs of batches as jobs of the Ray cluster, which outlive the process that submitted them."""

from __future__ import annotations

import shlex
import sys
from itertools import count
from typing import Any

import ray

from serve_app.batches.keeper import BatchKeeper
from serve_app.batches.processes import MODULE
from serve_app.config import ServeConfig
from storage.storage import Storage


class RayJobs:
    """Submits a job for each batch, under a name that only one of several ingresses can take."""

    def __init__(self, files_uri: str, address: str | None = None) -> None:
        self._files_uri, self._address = files_uri, address
        self._client: Any = None
        self._tries: dict[str, int] = {}  # id -> the latest number that is known

    def runs(self, owner: str, id: str) -> bool:
        for number in count(self._tries.get(id, 1)):
            self._tries[id] = number
            try:
                status = self._connected().get_job_status(_name(id, number))
            except RuntimeError:  # there is no such job
                return False
            if not status.is_terminal():
                return True
        raise AssertionError("counting ends")

    def start(self, owner: str, id: str) -> None:
        """Submit the job, unless another ingress is faster."""
        command = [sys.executable, "-P", "-m", MODULE, self._files_uri, owner, id]
        runtime = dict(ray.get_runtime_context().runtime_env)
        self._connected().submit_job(
            entrypoint=shlex.join(command),
            submission_id=_name(id, self._tries.get(id, 1)),
            runtime_env=runtime,
            metadata={"batch": id},
        )

    def close(self) -> None:
        """Leave them: they are the cluster's."""

    def _connected(self) -> Any:
        if self._client is None:
            from ray.job_submission import JobSubmissionClient

            address = self._address or ray.get_runtime_context().gcs_address
            self._client = JobSubmissionClient(address)
        return self._client


def _name(id: str, number: int) -> str:
    return f"{id}-{number}"


def keeper_over_ray(config: ServeConfig) -> BatchKeeper:
    """Start to look after the batches of a server that has a place for them."""
    files_uri = config.files_uri or ""
    keeper = BatchKeeper(Storage(files_uri), RayJobs(files_uri), config.batches_at_once)
    keeper.start()
    return keeper
