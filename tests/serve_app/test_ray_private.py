"""What this server takes of Serve's insides is what Serve has."""

from __future__ import annotations

from pathlib import Path

from ray.serve._private import constants

from serve_app import ray_private
from serve_app.ray_private import PROXY_TIMEOUT_VARIABLES, STEERING_HEADERS


def test_serve_reads_what_is_set_for_it() -> None:
    for name in [ray_private.PROXY_MIDDLEWARES_VARIABLE, *PROXY_TIMEOUT_VARIABLES]:
        assert name in Path(constants.__file__).read_text()
    steering = {
        constants.SERVE_HTTP_REQUEST_TIMEOUT_S_HEADER,
        constants.SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER,
        constants.SERVE_MULTIPLEXED_MODEL_ID.replace("_", "-"),
        constants.SERVE_SESSION_ID,
    }
    assert {name.encode() for name in steering} == STEERING_HEADERS
