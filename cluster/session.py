"""A Ray session: joined at an address, or started on this machine for as long as a block lasts."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections.abc import Iterator, Set
from contextlib import chdir, contextmanager, suppress
from typing import Any

import psutil
import ray

from cluster.processes import kill, with_descendants
from cluster.ray_private import gcs_address, is_rays, local_settings, on_loopback, quieten_ray
from engine.errors import ClusterUnavailable, OptionInvalid

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10.0  # to the address of a cluster
MIN_LOCAL_CPUS = 8  # Ray's slots, not cores: with fewer, operators and replicas starve each other
# Ray's processes look for modules in the folder in which it was joined or started first: it must be
# ours, as a user's may hold an `engine.py` of its own.
OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@contextmanager
def joined_ray(address: str, **options: Any) -> Iterator[None]:
    """Connect to the cluster at `address` ("auto": the one that RAY_ADDRESS or this machine names).

    `options` are `ray.init`'s. Raises `OptionInvalid` where there is no cluster.
    """
    quieten_ray()
    try:
        _check_listens(address)
        with chdir(OURS):
            ray.init(address=address, **options)
    except (ValueError, RuntimeError, ConnectionError) as error:
        message = f"--address or RAY_ADDRESS: {_reason(error)}"
        raise OptionInvalid(message, param="address") from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_listens(address: str) -> None:
    """Raise `ConnectionError` where nothing listens that can be joined: `ray.init` would wait for
    it, for minutes and without a word."""
    if (found := gcs_address(address)) is None:
        return
    try:
        socket.create_connection(found, CONNECT_TIMEOUT_S).close()
    except OSError:
        raise ConnectionError(
            f"no Ray listens at {found[0]}:{found[1]} (one that a server or a job started for "
            "itself is on 127.0.0.1, and for that alone): name another, or leave it out for a Ray "
            "of its own"
        ) from None


@contextmanager
def local_ray(idle_workers: int, num_cpus: int = 0, **options: Any) -> Iterator[None]:
    """Start a Ray on this machine that no other can reach, and end it with the block, every
    process of it.

    Ray gives up on itself after about 30 s, which a busy machine may take: it is tried once more.
    `idle_workers`: processes that Ray keeps for tasks. `num_cpus`: logical CPUs at least; it has as
    many as the machine, and `MIN_LOCAL_CPUS`, in any case. `options` are `ray.init`'s.
    Raises `ClusterUnavailable` where it does not start either time.
    """
    cpus = max(MIN_LOCAL_CPUS, os.cpu_count() or 1, num_cpus)
    arguments = {"num_cpus": cpus, **local_settings(idle_workers), **options}
    before = set(psutil.Process().children())
    try:
        _start(arguments, before)
    except Exception as error:  # Ray raises bare `Exception` here, and much else
        logger.warning("Ray did not start: %s; trying once more", _reason(error))
        try:
            _start(arguments, before)
        except Exception as again:
            raise ClusterUnavailable(_refusal(again)) from again
    try:
        yield
    finally:
        _shut_down(before)


def _start(arguments: dict[str, Any], before: Set[psutil.Process]) -> None:
    """Start Ray, or leave no process of it behind: it forgets them when it gives up, and they would
    take the cores of the next try. `before`: of `_shut_down`."""
    quieten_ray()
    try:
        with chdir(OURS), on_loopback():
            ray.init(address="local", **arguments)
    except BaseException:
        _shut_down(before)
        raise


def _shut_down(before: Set[psutil.Process]) -> None:
    """End Ray, and what is left of its processes, which are among the children of this process
    that were not there `before`, and below them. Ray kills a raylet that takes longer than a
    second to end; a worker that is starting then would take a minute to notice."""
    rays = _rays_since(before)
    ray.shutdown()
    kill({*rays, *_rays_since(before)})


def _rays_since(before: Set[psutil.Process]) -> list[psutil.Process]:
    """List the children of this process that are Ray's and not among `before`, with theirs."""
    found = []
    for child in set(psutil.Process().children()) - before:
        with suppress(psutil.NoSuchProcess):
            if is_rays(child):
                found.append(child)
    return with_descendants(found)


def _refusal(error: Exception) -> str:
    logs = os.path.join(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir(), "ray")
    return (
        f"Ray did not start, tried twice: {_reason(error)}; the machine's load is "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores: try again when it is less busy, or "
        f"read the logs of the latest session in {logs}"
    )


def _reason(error: Exception) -> str:
    """Return the first sentence of an error of Ray's, which may go on for pages."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].partition(". ")[0].rstrip(". ")
