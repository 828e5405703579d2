"""The private and unstable parts of Ray on which a session depends, all of them.

Each was read in the source of `CHECKED_RAY`. A new Ray: read them again, `make test-all`, and
write its version here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import ray
from ray._private import ray_constants, services

CHECKED_RAY = "2.60.0"

_RAY_FOLDER = os.path.dirname(ray.__file__)
_TOKEN_LOGGER = "ray._private.authentication.authentication_token_setup"


def quieten_ray() -> None:
    """Leave out of Ray's words that its processes know each other by a token, as they do unless
    somebody decides otherwise; that they do not is still told.

    The logger is that of _private/authentication/authentication_token_setup.py.
    """
    logging.getLogger(_TOKEN_LOGGER).addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return "Token authentication is enabled" not in str(record.msg)


def local_settings(idle_workers: int) -> dict[str, Any]:
    """Return arguments of `ray.init` for a Ray that takes little from a small machine.

    `_system_config` overrides settings of the C++ side (src/ray/common/ray_config_def.h):
    `num_workers_soft_limit` is the number of idle workers that are kept; nobody reads the
    `event_stats`, which take a seventh of an idle Ray (docs/decisions.md).
    """
    settings = {"num_workers_soft_limit": idle_workers, "event_stats": False}
    return {"include_dashboard": False, "_system_config": settings}


@contextmanager
def on_loopback() -> Iterator[None]:
    """Have a Ray that starts within the block listen on 127.0.0.1 alone, as it does by itself on
    macOS; else its ports are open on all addresses of the machine. One is in any case, of each
    replica of Serve: `_on_initialized` (serve/_private/replica.py) says so.

    `ENABLE_RAY_CLUSTER` (_private/ray_constants.py) decides that in `get_node_ip_address`
    (_private/services.py), which turns a `_node_ip_address` of 127.0.0.1 into another one.
    """
    usual = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = usual


def gcs_address(address: str) -> tuple[str, int] | None:
    """Return the host and port at which `ray.init` looks for the cluster at `address`, None where
    it looks for none: an address with a scheme is of another kind, and "local" starts one.

    `canonicalize_bootstrap_address` (_private/services.py) puts this machine's address in the place
    of 127.0.0.1. Raises `ConnectionError` where "auto" finds no Ray, and `ValueError`.
    """
    named = os.environ.get(ray_constants.RAY_ADDRESS_ENVIRONMENT_VARIABLE) or address
    if "://" in (named if address == "auto" else address):
        return None
    if (found := services.canonicalize_bootstrap_address(address)) is None:
        return None
    host, _, port = found.rpartition(":")
    return host.strip("[]"), int(port)


def is_rays(process: psutil.Process) -> bool:
    """Tell a process that Ray started from others: its program or script lies in Ray's package.

    True of gcs_server, raylet, monitor, log monitor and dashboard, which `ray.init` starts as
    children of this process and forgets when it gives up (_private/node.py, services.py). Raises
    `psutil.NoSuchProcess` where it has ended.
    """
    return any(part.startswith(_RAY_FOLDER) for part in process.cmdline())
