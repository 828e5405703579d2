"""A folder of real photographs, and captions of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

CAPTIONS = {
    "astronaut": "an astronaut in front of a flag.",
    "coffee": "a cup of coffee on a wooden table",
    "chelsea": "一只猫",
    "rocket": "a rocket on its launch pad",
}


@pytest.fixture(scope="session")
def album(tmp_path_factory: pytest.TempPathFactory, photographs: dict[str, bytes]) -> Path:
    """A folder of photographs."""
    folder = tmp_path_factory.mktemp("album")
    for name, data in photographs.items():
        (folder / f"{name}.jpg").write_bytes(data)
    return folder


@pytest.fixture
def captions(album: Path, tmp_path: Path) -> Path:
    """A manifest of its photographs with captions."""
    path = tmp_path / "captions.jsonl"
    rows = [
        {"id": name, "image": str(album / f"{name}.jpg"), "caption": text}
        for name, text in CAPTIONS.items()
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path
