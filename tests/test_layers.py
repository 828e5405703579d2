"""Imports run one way: `engine` knows neither door, the doors do not know each other."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("rayedit", "engine", "storage", "cluster", "serve_app", "batch_jobs", "cli")

DOORS = {"serve_app", "batch_jobs", "cli"}
HTTP = {"fastapi", "starlette"}

FORBIDDEN = {
    "engine": {"ray", "pyarrow", "fsspec", "storage", "cluster"} | HTTP | DOORS,
    "storage": {"ray", "pyarrow", "cluster"} | HTTP | DOORS,
    "cluster": {"pyarrow", "fsspec", "storage"} | HTTP | DOORS,
    "serve_app": {"batch_jobs", "cli", "fsspec", "storage"},  # a server fetches nothing
    "batch_jobs": {"serve_app", "cli"} | HTTP,
    "cli": set(),
    "rayedit": {"ray", "pyarrow"} | HTTP | DOORS,
}

# A module of `engine` imports only modules that stand before it.
ENGINE_ORDER = [
    "errors",
    "fields",
    "options",
    "edit",
    "text",
    "wire",
    "guidance",
    "hub",
    "registry",
    "weights",
    "config",
    "calibration",
    "memory",
    "images",
    "canvas",
    "geometry",
    "sources",
    "pool",
    "seeding",
    "lane",
    "sampling",
    "schedulers",
    "scheduler_tables",
    "tensor_cache",
    "models",
    "loading",
    "samples",
    "step",
    "packing",
    "graphs",
    "pacing",
    "counters",
    "capacity",
    "isolation",
    "previews",
    "loop",
    "actor",
]


def imports(source: str) -> Iterator[str]:
    """Every module that `source` names in an import, wherever it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def forbidden_imports(package: str, source: str) -> list[str]:
    found = {name.split(".")[0] for name in imports(source)}
    return sorted(found & FORBIDDEN[package])


@pytest.mark.parametrize("package", PACKAGES)
def test_no_package_imports_what_it_must_not_know(package: str) -> None:
    for path in files(package):
        assert forbidden_imports(package, path.read_text()) == [], path


def test_a_forbidden_import_is_found_wherever_it_hides() -> None:
    assert forbidden_imports("engine", "def f():\n    import ray.data\n") == ["ray"]
    assert forbidden_imports("engine", "from pyarrow import fs\n") == ["pyarrow"]
    assert forbidden_imports("serve_app", "if x:\n    from batch_jobs.job import run\n") == [
        "batch_jobs"
    ]


def test_engine_modules_import_only_what_stands_before_them() -> None:
    for path in files("engine"):
        relative = path.relative_to(ROOT / "engine").with_suffix("").parts
        module = relative[0]
        if module == "__init__":
            continue
        place = ENGINE_ORDER.index(module)
        for name in imports(path.read_text()):
            parts = name.split(".")
            assert parts[0], f"{path}: relative import"
            if parts[0] == "engine" and len(parts) > 1 and parts[1] != module:
                assert ENGINE_ORDER.index(parts[1]) < place, f"{path} imports {name}"


def test_the_order_names_every_module() -> None:
    modules = {path.relative_to(ROOT / "engine").parts[0] for path in files("engine")}
    assert {name.removesuffix(".py") for name in modules} - {"__init__"} == set(ENGINE_ORDER)


def test_importing_rayedit_and_its_engine_loads_no_torch() -> None:
    code = (
        "import rayedit, sys;print(*(m for m in ('torch', 'diffusers', 'ray') if m in sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == []


def test_planning_a_job_loads_no_torch_and_no_ray() -> None:
    code = (
        "import batch_jobs.manifest.plan, batch_jobs.ledger.ledger, engine.weights, sys;"
        "print(*(m for m in ('torch', 'diffusers', 'ray') if m in sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == []


@pytest.mark.parametrize("package", PACKAGES)
def test_files_and_functions_stay_short(package: str) -> None:
    for path in files(package):
        source = path.read_text()
        assert len(source.splitlines()) <= 250, f"{path}: split it by noun"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= 40, f"{path}: {node.name} has {length} lines"
