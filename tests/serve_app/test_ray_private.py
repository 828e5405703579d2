"""What this server takes of Ray's insides stands in one file, read in the Ray that is installed."""

from __future__ import annotations

import ast
from pathlib import Path

import ray
from ray.serve._private import constants

from serve_app import ray_private
from serve_app.ray_private import CHECKED_RAY, PROXY_TIMEOUT_VARIABLES, STEERING_HEADERS

FOLDER = Path(ray_private.__file__).parent


def private_parts(source: str) -> list[str]:
    """Private names of Ray that `source` imports, and variables of Serve that it writes out."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ray":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name for name in names if "._" in name]
        elif isinstance(node, ast.Constant) and str(node.value).startswith("RAY_SERVE_"):
            found.append(str(node.value))
    return found


def test_private_parts_of_ray_are_touched_in_one_file() -> None:
    for path in FOLDER.rglob("*.py"):
        found = private_parts(path.read_text())
        assert bool(found) == (path.name == "ray_private.py"), (path, found)


def test_they_were_checked_with_the_ray_that_is_installed() -> None:
    assert ray.__version__ == CHECKED_RAY


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
