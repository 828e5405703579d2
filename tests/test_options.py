"""An option is written once: a field of `EditOptions` is everywhere by that."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("engine", "storage", "cluster", "serve_app", "batch_jobs", "cli", "docs")
FIRST = '    @field_validator("size")\n'
MADE_UP = """\
    sparkle: Annotated[
        Annotated[float, Field(ge=0, le=9)] | None, Field(description="how much it sparkles")
    ] = None

"""
PLACES = """
import json
from typer.testing import CliRunner
from batch_jobs.ledger.entry import SCHEMA
from batch_jobs.ledger.fingerprint import Fingerprints
from batch_jobs.manifest.columns import COLUMNS
from batch_jobs.manifest.plan import read_manifest
from cli.main import app
from engine.config import EngineConfig
from engine.options import EditOptions
from engine.registry import find_model
from engine.wire import EditBody
from docs.api_page import openapi

with open("rows.csv", "w") as file:
    file.write("id,image,instruction,sparkle\\na,a.png,glow,1\\na2,a.png,glow,2\\n")
plan = read_manifest("rows.csv")
same = plan.set_column(plan.schema.get_field_index("id"), "id", [["a", "a"]])
prints = Fingerprints(find_model("pocket"), "1", EngineConfig(), 0).add_to(same)
prints = prints["fingerprint"].to_pylist()
content = openapi()["paths"]["/v1/images/edits"]["post"]["requestBody"]["content"]
bodies = [content[kind]["schema"]["properties"]["sparkle"] for kind in content]
print(json.dumps({
    "flags": [CliRunner().invoke(app, [name, "--help"]).output for name in ("edit", "batch")],
    "key": EngineConfig(options={"sparkle": 3}).find_model().resolve(EditOptions(), 0).sparkle,
    "json": EditBody.parse({"prompt": "x", "sparkle": 4.5}).options().sparkle,
    "form": EditBody.parse({"prompt": "x", "sparkle": "4.5"}, strict=False).options(
        strict=False).sparkle,
    "openapi": [body["description"] for body in bodies],
    "column": "sparkle" in COLUMNS,
    "ledger": str(SCHEMA.field("sparkle").type),
    "plan": plan["options"].to_pylist(),
    "fingerprints": len(set(prints)),
}))
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a copy of the packages, with one option more, says of it."""
    tree = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tree / package, ignore=shutil.ignore_patterns("*model.safetensors")
        )
    options = tree / "engine" / "options.py"
    text = options.read_text()
    assert text.count(FIRST) == 1
    options.write_text(text.replace(FIRST, MADE_UP + FIRST))
    done = subprocess.run(
        [sys.executable, "-c", PLACES], cwd=tree, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_new_option_is_a_flag_with_its_bounds_and_a_key_of_yaml(
    places: dict[str, Any],
) -> None:
    for text in places["flags"]:
        words = text.split()
        assert "--sparkle" in words
        assert "how much it sparkles; 0 to 9" in " ".join(words)
    assert places["key"] == 3


def test_a_new_option_is_a_field_of_forms_and_json_and_documented(
    places: dict[str, object],
) -> None:
    assert places["json"] == places["form"] == 4.5
    assert places["openapi"] == ["how much it sparkles"] * 2


def test_a_new_option_is_a_column_of_manifest_and_ledger_and_part_of_the_fingerprint(
    places: dict[str, object],
) -> None:
    assert places["column"]
    assert places["ledger"] == "double"
    assert places["plan"] == ['{"sparkle": "1"}', '{"sparkle": "2"}']
    assert places["fingerprints"] == 2
