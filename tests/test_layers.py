"""Imports run one way: `engine` knows neither door, the doors do not know each other."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = (
    *("rayedit", "engine", "storage", "cluster", "serve_app"),
    *("batch_jobs", "triplet_jobs", "cli"),
)

DOORS = {"serve_app", "batch_jobs", "triplet_jobs", "cli"}
HTTP = {"fastapi", "starlette"}

FORBIDDEN = {
    "engine": {"ray", "pyarrow", "fsspec", "storage", "cluster"} | HTTP | DOORS,
    "storage": {"ray", "pyarrow", "cluster"} | HTTP | DOORS,
    "cluster": {"pyarrow", "fsspec", "storage"} | HTTP | DOORS,
    "serve_app": {"batch_jobs", "triplet_jobs", "cli", "fsspec"},
    "batch_jobs": {"serve_app", "triplet_jobs", "cli"} | HTTP,
    "triplet_jobs": {"serve_app", "cli"} | HTTP,  # a batch job with another plan and another end
    "cli": set(),
    "rayedit": {"ray", "pyarrow"} | HTTP | DOORS,
}

# A module of `engine` imports only modules that stand before it.
ENGINE_ORDER = [
    "errors",
    "error_codes",
    "counted",
    "fields",
    "size",
    "options",
    "flags",
    "tensor_file",
    "adapter",
    "edit",
    "text",
    "wire",
    "guidance",
    "hub",
    "control_window",
    "spec",
    "catalogue",
    "families",
    "model_sizes",
    "registry",
    "weights",
    "styles",
    "built_in_styles",
    "config",
    "pair",
    "recipe",
    "calibration",
    "allocator",
    "device",
    "memory",
    "formats",
    "bands",
    "picture",
    "png",
    "jpeg",
    "png_writer",
    "colour",
    "images",
    "canvas",
    "geometry",
    "alpha",
    "masks",
    "control",
    "detail",
    "preserve",
    "finishing",
    "quality",
    "correction",
    "look",
    "sources",
    "results",
    "pool",
    "seeding",
    "lane",
    "sampling",
    "schedulers",
    "scheduler_tables",
    "tensor_cache",
    "models",
    "edit_judge",
    "lora",
    "adapters",
    "loading",
    "phrases",
    "chat",
    "chat_translator",
    "translation",
    "samples",
    "reconstruction",
    "step",
    "packing",
    "graphs",
    "pacing",
    "counters",
    "capacity",
    "isolation",
    "decoding",
    "previews",
    "turns",
    "loop",
    "tries",
    "actor",
]

# A module or room of `serve_app` imports only what stands before it.
SERVE_ORDER = [
    "model_config",
    "config",
    "served",
    "schemas",
    "errors",
    "error_response",
    "backend",
    "metrics",
    "ray_private",
    "playground",
    "batches",
    "proxy",  # by the process that a line runs in: these three
    "ingress",
    "replica",
    "exposure",
    "deployment",
    "app",
]

# A module or room of `batch_jobs` imports only what stands before it.
BATCH_ORDER = [
    "records",  # these five know nothing of the rest
    "config",
    "progress",
    "stopping",
    "budget",
    "manifest",
    "ledger",
    "ray_private",
    "cluster",
    "stages",
    "validation",
    "report",
    "export",
    "status",
    "job_plan",
    "editing",
    "job",
    "hosted",
    "__main__",
]

# A module of `triplet_jobs` imports only modules that stand before it.
TRIPLET_ORDER = [
    "config",
    "filters",
    "captions",
    "rewriting",
    "prompt",
    "attempts",
    "arithmetic",
    "grammar",
    "chat",
    "gguf",
    "language_model",
    "candidates",
    "kept_rewrites",
    "folder_rewriter",
    "rewrites",
    "pairing",
    "programmatic",
    "prompt_to_prompt",
    "selection",
    "data_set",
    "job",
    "price",
    "__main__",
]

# The two packages below the doors.
STORAGE_ORDER = [
    "location",
    "backends",
    "sources",
    "retrying",
    "storage",
    "file_store",
    "batch_store",
]
CLUSTER_ORDER = ["processes", "ray_private", "session", "stderr"]

ORDER = {
    "engine": ENGINE_ORDER,
    "storage": STORAGE_ORDER,
    "cluster": CLUSTER_ORDER,
    "serve_app": SERVE_ORDER,
    "batch_jobs": BATCH_ORDER,
    "triplet_jobs": TRIPLET_ORDER,
}

# Rooms of a package that know nothing of each other.
APART = {
    "serve_app": {"proxy", "ingress", "replica"},
    "batch_jobs": {"records", "config", "progress", "stopping"},
}

# Imports from one room of a package into another (a module that is in no folder is a room): one
# more is a decision. 58 when `serve_app` was flat, 99 when `batch_jobs` was. The settings of one
# model are `model_config`; the server has several (`served`), and waits for the status of each.
MOST_ARROWS = {"serve_app": 39, "batch_jobs": 49}


def imports(source: str) -> Iterator[str]:
    """Every module that `source` names in an import, wherever it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def arrows(package: str) -> dict[str, set[str]]:
    """Module -> the modules of the same package that it imports."""
    names = {
        path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files(package)
    }
    modules = {name.removesuffix(".__init__") for name in names.values()}
    found: dict[str, set[str]] = {}
    for path, name in names.items():
        inner = found[name.removesuffix(".__init__")] = set()
        for imported in imports(path.read_text()):
            parts = imported.split(".")
            prefixes = [".".join(parts[:count]) for count in range(len(parts), 1, -1)]
            inner |= set([prefix for prefix in prefixes if prefix in modules][:1])
    return found


def room(module: str) -> str:
    """`serve_app.ingress.keys` -> `ingress`."""
    return module.split(".")[1]


def forbidden_imports(package: str, source: str) -> list[str]:
    found = {name.split(".")[0] for name in imports(source)}
    return sorted(found & FORBIDDEN[package])


@pytest.mark.parametrize("package", PACKAGES)
def test_no_package_imports_what_it_must_not_know(package: str) -> None:
    for path in files(package):
        assert forbidden_imports(package, path.read_text()) == [], path


def test_a_server_fetches_nothing_and_touches_storage_in_few_places() -> None:
    """What it reads and writes there are its own images, and what its clients keep."""
    found = {
        str(path.relative_to(ROOT)): {
            name.split(".")[1] for name in imports(path.read_text()) if name.startswith("storage")
        }
        for path in files("serve_app")
    }
    assert {path: names for path, names in found.items() if names} == {
        "serve_app/batches/keeper.py": {"batch_store", "storage"},
        "serve_app/batches/processes.py": {"storage"},
        "serve_app/batches/ray_jobs.py": {"storage"},
        "serve_app/ingress/batches.py": {"batch_store"},
        "serve_app/ingress/file_routes.py": {"file_store"},
        "serve_app/ingress/files.py": {"file_store", "storage"},
        "serve_app/ingress/kept_schemas.py": {"file_store"},
        "serve_app/ingress/results.py": {"storage"},
        "serve_app/ingress/upload.py": {"file_store"},
    }


def test_a_forbidden_import_is_found_wherever_it_hides() -> None:
    assert forbidden_imports("engine", "def f():\n    import ray.data\n") == ["ray"]
    assert forbidden_imports("engine", "from pyarrow import fs\n") == ["pyarrow"]
    assert forbidden_imports("serve_app", "if x:\n    from batch_jobs.job import run\n") == [
        "batch_jobs"
    ]


@pytest.mark.parametrize("package", ORDER)
def test_a_module_imports_only_what_stands_before_it(package: str) -> None:
    order = ORDER[package]
    for module, imported in arrows(package).items():
        for name in imported if module != package else ():
            assert order.index(room(name)) <= order.index(room(module)), f"{module} imports {name}"


@pytest.mark.parametrize("package", ORDER)
def test_the_order_names_every_module(package: str) -> None:
    modules = {path.relative_to(ROOT / package).parts[0] for path in files(package)}
    assert {name.removesuffix(".py") for name in modules} - {"__init__"} == set(ORDER[package])


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_leads_back_and_none_is_relative(package: str) -> None:
    TopologicalSorter(arrows(package)).prepare()  # raises CycleError
    for path in files(package):
        assert [name for name in imports(path.read_text()) if name.startswith(".")] == [], path


@pytest.mark.parametrize("package", APART)
def test_rooms_that_stand_apart_know_nothing_of_each_other(package: str) -> None:
    for module, imported in arrows(package).items():
        if module != package and room(module) in APART[package]:
            others = APART[package] - {room(module)}
            assert {room(name) for name in imported} & others == set(), module


@pytest.mark.parametrize("package", MOST_ARROWS)
def test_a_package_has_no_more_arrows_between_its_rooms_than_was_decided(package: str) -> None:
    pairs = {
        (room(module), room(name))
        for module, imported in arrows(package).items()
        for name in imported
        if module != package
    }
    assert len([pair for pair in pairs if len(set(pair)) == 2]) <= MOST_ARROWS[package]


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
        "import engine.pair, engine.quality.clip_scores;"
        "print(*(m for m in ('torch', 'diffusers', 'ray') if m in sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == []


@pytest.mark.parametrize("package", [*PACKAGES, "docs", "training", "benchmarks", "examples"])
def test_files_and_functions_stay_short(package: str) -> None:
    for path in files(package):
        source = path.read_text()
        assert len(source.splitlines()) <= 250, f"{path}: split it by noun"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= 40, f"{path}: {node.name} has {length} lines"
