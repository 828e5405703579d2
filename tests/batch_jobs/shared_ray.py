"""One Ray for the whole test run, however many modules ask for it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import ray
from ray.cluster_utils import Cluster

CPUS = max(8, os.cpu_count() or 1)  # logical: fewer, and Ray Data's operators starve each other
_ADDRESS: pytest.StashKey[str] = pytest.StashKey()


@contextmanager
def shared_ray(config: pytest.Config, **environment: str) -> Iterator[None]:
    """This process connected to it, for the length of a `with` block; `environment`: of the workers
    that it gets meanwhile."""
    if _ADDRESS not in config.stash:
        stack = ExitStack()
        config.add_cleanup(stack.close)
        config.stash[_ADDRESS] = stack.enter_context(_running()).address
    env = {"runtime_env": {"env_vars": environment}} if environment else {}
    ray.init(address=config.stash[_ADDRESS], log_to_driver=False, **env)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _running() -> Iterator[Cluster]:
    with (
        tempfile.TemporaryDirectory(prefix="ray-") as folder,  # a socket's path must be short
        pytest.MonkeyPatch.context() as variables,
    ):
        variables.setenv("RAY_TMPDIR", folder)  # or other jobs here would join this cluster
        args = {"num_cpus": CPUS, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=args)
        variables.undo()
        try:
            yield cluster
        finally:
            cluster.shutdown()
