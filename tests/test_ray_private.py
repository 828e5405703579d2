"""What is taken of Ray's insides stands in one file a package, read in the installed Ray."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest
import ray

ROOT = Path(__file__).parent.parent
PACKAGES = ("cluster", "batch_jobs", "serve_app")
UNSTABLE_MODULES = ("ray.data.block", "ray.data.exceptions")
# Arguments, settings and variables that Ray may rename in any version.
UNSTABLE_NAMES = (
    "_system_config",
    "enable_true_multi_threading",
    "raise_original_map_exception",
    "udf_modifying_row_count",
)
UNSTABLE_VARIABLES = "RAY_SERVE_"


def private_parts(source: str) -> list[str]:
    """Parts of Ray that are private, or marked as unstable, in `source`."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
        elif isinstance(node, ast.keyword | ast.Attribute):
            found.append((node.arg if isinstance(node, ast.keyword) else node.attr) or "")
    return [name for name in found if is_private(name)]


def is_private(name: str) -> bool:
    return (
        (name.startswith("ray.") and "._" in name)
        or name.startswith((*UNSTABLE_MODULES, UNSTABLE_VARIABLES))
        or name in UNSTABLE_NAMES
    )


@pytest.mark.parametrize(
    "source",
    [
        "from ray.serve.context import _get_global_client",
        "from ray.serve._private.logging_utils import get_serve_logs_dir",
        "import ray._private.worker",
        "from ray.data.block import BlockMetadata",
        "ray.init(_system_config={})",
        "settings = {'_system_config': {}}",
        "context.raise_original_map_exception = True",
        "os.environ['RAY_SERVE_ANYTHING'] = '1'",
    ],
)
def test_a_private_part_is_found_however_it_is_taken(source: str) -> None:
    assert len(private_parts(source)) == 1


@pytest.mark.parametrize("package", PACKAGES)
def test_private_parts_of_ray_are_touched_in_one_file(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        found = private_parts(path.read_text())
        assert bool(found) == (path.name == "ray_private.py"), (path, found)


@pytest.mark.parametrize("package", PACKAGES)
def test_they_were_checked_with_the_ray_that_is_installed(package: str) -> None:
    module = importlib.import_module(f"{package}.ray_private")
    assert ray.__version__ == module.CHECKED_RAY
