"""A poor source through every door: the edit is made, and both say the same of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.spoiling import blur, expose
from engine.registry import find_model
from serve_app.config import ServeConfig
from tests.batch_jobs.manifests import checked, decoded
from tests.batch_jobs.shapes import write_lines
from tests.conftest import photograph, png
from tests.serve_app.conftest import data_url
from tests.serve_app.test_several_images import Served

POCKET = find_model("pocket")
PHOTO = photograph("coffee")
SOURCES = {
    "good": (PHOTO, []),
    "blurred": (blur(PHOTO, 0.02), ["source_blurry"]),
    "dark": (expose(PHOTO, -4), ["source_dark"]),
    "small": (PHOTO[100:160, 200:260], ["source_small"]),
}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    made = Served(POCKET, ServeConfig(decode_workers=1))
    yield made
    made.service.close()


def write_manifest(folder: Path) -> str:
    lines = [
        {"id": name, "image": data_url(file_of(name)), "instruction": "add fog"} for name in SOURCES
    ]
    return write_lines(folder / "m.jsonl", lines)


def file_of(name: str) -> bytes:
    return png(np.ascontiguousarray(SOURCES[name][0]))


def test_both_doors_warn_of_the_same_sources_and_edit_them(served: Served, tmp_path: Path) -> None:
    rows = {row.entry.id: row for row in decoded(write_manifest(tmp_path), POCKET)}
    for name, (_, warnings) in SOURCES.items():
        answer = served.json(file_of(name))
        assert answer.status_code == 200, answer.text
        assert json.loads(answer.text)["warnings"] == warnings, name
        assert rows[name].prepared is not None
        assert rows[name].entry.warnings == warnings, name


def test_validate_names_the_sources_that_it_would_warn_of(tmp_path: Path) -> None:
    check = checked(write_manifest(tmp_path))
    assert check.problems == []
    assert check.warnings == [
        "1 row, source_blurry: blurred",
        "1 row, source_dark: dark",
        "1 row, source_small: small",
    ]
