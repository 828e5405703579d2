"""A Ray session: joined at an address, or started on this machine for as long as a block lasts."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Set
from contextlib import chdir, contextmanager, suppress
from typing import Any

import psutil
import ray

from cluster.ray_private import is_rays, local_settings, quieten_ray
from engine.errors import ClusterUnavailable, OptionInvalid

logger = logging.getLogger(__name__)

MIN_LOCAL_CPUS = 8  # Ray's slots, not cores: with fewer, operators and replicas starve each other
KILL_WAIT_S = 5.0  # a killed process is gone in milliseconds; Ray's own bound is 5 s too
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
        with chdir(OURS):
            ray.init(address=address, **options)
    except (ValueError, RuntimeError, ConnectionError) as error:
        message = f"--address or RAY_ADDRESS: {_reason(error)}"
        raise OptionInvalid(message, param="address") from None
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def local_ray(idle_workers: int, num_cpus: int = 0, **options: Any) -> Iterator[None]:
    """Start a Ray on this machine, and end it with the block.

    Ray gives up on itself after about 30 s, which a busy machine may take: it is tried once more.
    `idle_workers`: processes that Ray keeps for tasks. `num_cpus`: logical CPUs at least; it has as
    many as the machine, and `MIN_LOCAL_CPUS`, in any case. `options` are `ray.init`'s.
    Raises `ClusterUnavailable` where it does not start either time.
    """
    cpus = max(MIN_LOCAL_CPUS, os.cpu_count() or 1, num_cpus)
    arguments = {"num_cpus": cpus, **local_settings(idle_workers), **options}
    try:
        _start(arguments)
    except Exception as error:  # Ray raises bare `Exception` here, and much else
        logger.warning("Ray did not start: %s; trying once more", _reason(error))
        try:
            _start(arguments)
        except Exception as again:
            raise ClusterUnavailable(_refusal(again)) from again
    try:
        yield
    finally:
        ray.shutdown()


def _start(arguments: dict[str, Any]) -> None:
    """Start Ray, or leave no process of it behind: it forgets them when it gives up, and they would
    take the cores of the next try."""
    before = set(psutil.Process().children())
    quieten_ray()
    try:
        with chdir(OURS):
            ray.init(address="local", **arguments)
    except BaseException:
        ray.shutdown()
        _kill_ray_since(before)
        raise


def _kill_ray_since(before: Set[psutil.Process]) -> None:
    """Kill the children of this process that are Ray's and not among `before`, with theirs."""
    killed = []
    for child in set(psutil.Process().children()) - before:
        with suppress(psutil.NoSuchProcess):
            if is_rays(child):
                killed += [child, *child.children(recursive=True)]
    for process in killed:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(killed, KILL_WAIT_S)


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
