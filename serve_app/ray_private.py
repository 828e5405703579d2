"""The private and unstable parts of Ray Serve on which this server depends, all of them.

Each was read in the source of `CHECKED_RAY`. A new Ray: read them again, `make test-all`, and
write its version here.
"""

from __future__ import annotations

from collections.abc import Iterable

import ray
from ray import serve
from ray.serve._private.common import RequestRoutingInfo
from ray.serve._private.logging_utils import get_serve_logs_dir
from ray.serve.context import _get_global_client

CHECKED_RAY = "2.60.0"

# Names a function that Serve's proxy calls at its start, and that returns ASGI middleware for it
# (serve/_private/http_util.py, constants.py).
PROXY_MIDDLEWARES_VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"

# How long Serve's controller waits for a proxy that starts (5 s otherwise) or answers its health
# check (10 s), before it kills the proxy and starts another (serve/_private/constants.py). On a
# machine at a load of 9 on two cores no proxy was ever ready in 5 s.
PROXY_TIMEOUT_VARIABLES = {
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
}

# By which the guard lifts Serve's timeout of one request (parse_request_timeout_header in
# serve/_private/http_util.py).
TIMEOUT_HEADER, NO_TIMEOUT = b"x-request-timeout-seconds", b"0"

# Headers by which a client would steer Serve: its timeout, its cancelling, its routing, twice
# (SERVE_HTTP_REQUEST_*_HEADER, SERVE_MULTIPLEXED_MODEL_ID, SERVE_SESSION_ID in constants.py).
STEERING_HEADERS = frozenset(
    {
        b"x-request-timeout-seconds",
        b"x-request-disconnect-disabled",
        b"serve-multiplexed-model-id",
        b"x-session-id",
    }
)


def tell_multiplexed(ids: Iterable[str]) -> None:
    """Tell Serve's routers what this replica holds, in the words of `serve.multiplexed`
    (`_push_model_ids_info` in serve/multiplex.py), which would keep a second book of it and load by
    that."""
    info = RequestRoutingInfo(serve.get_replica_context().replica_id, sorted(ids))
    _get_global_client().record_request_routing_info(info)


def proxy_host() -> str | None:
    """Return the address on which Serve's proxies listen; `None` where there is no Serve."""
    client = _get_global_client(raise_if_no_controller_running=False)
    return client.http_config.host if client else None


def logs_folder() -> str:
    """Return the folder of Serve's logs on this node; our replicas write `replica_*.log`, JSON."""
    return get_serve_logs_dir()


def metrics_urls() -> list[str]:
    """Return the address of Ray's Prometheus endpoint on each node: a port that is another one each
    time Ray starts."""
    return [
        f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        for node in ray.nodes()
        if node["Alive"] and node["MetricsExportPort"] > 0  # -1: it collects none
    ]
