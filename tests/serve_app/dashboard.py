"""What Grafana's dashboard asks of Prometheus, and what this server declares to it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serve_app.ingress.metrics import STAGES

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "configs" / "cluster" / "grafana.json"
SELECTOR = r"(ray_\w+)(?:\{([^}]*)\})?"
SERIES = {"Counter": ("",), "Gauge": ("",), "Histogram": ("_bucket", "_sum", "_count")}


def queries() -> list[str]:
    """The PromQL of every panel."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def asked_series() -> set[str]:
    return {series for query in queries() for series, _ in re.findall(SELECTOR, query)}


def choices() -> dict[str, dict[str, Any]]:
    """The variables by their names: what an operator chooses above the panels."""
    listed = json.loads(DASHBOARD.read_text())["templating"]["list"]
    return {variable["name"]: variable for variable in listed}


def chosen_model() -> tuple[str, str]:
    """The series and the label in which the models are found that can be chosen."""
    (found,) = re.findall(r"^label_values\((\w+), (\w+)\)$", choices()["model"]["definition"])
    return found


def declared_series() -> dict[str, tuple[str, set[str]]]:
    """Series as Ray tells it -> the kind of its metric and its own labels, from the source of every
    process."""
    found = {}
    for path in (ROOT / "serve_app").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            kind = node.func.id
            for metric in _names(node) if kind in SERIES else ():
                for suffix in SERIES[kind]:
                    labels = {"le"} if suffix == "_bucket" else set()
                    found[f"ray_{metric}{suffix}"] = (kind, labels | _tags(node, kind))
    return found


def _names(call: ast.Call) -> Iterator[str]:
    """The name of a metric; one that holds a stage stands for each."""
    name = call.args[0]
    if isinstance(name, ast.Constant):
        yield str(name.value)
        return
    assert isinstance(name, ast.JoinedStr), ast.unparse(name)
    for stage in STAGES:
        yield "".join(
            str(part.value) if isinstance(part, ast.Constant) else stage for part in name.values
        )


def _tags(call: ast.Call, kind: str) -> set[str]:
    places = [keyword.value for keyword in call.keywords if keyword.arg == "tag_keys"]
    at = 3 if kind == "Histogram" else 2
    places += call.args[at : at + 1]
    return {tag for place in places for tag in ast.literal_eval(place)}
