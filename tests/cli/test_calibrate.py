"""What `rayedit calibrate` writes of a family is taken by the engine that edits with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from engine.config import EngineConfig, load_config
from engine.loading import load_model
from tests.engine.families import FAMILIES, Family, one_thread


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    with one_thread():
        yield


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_every_family_is_measured(
    family: Family, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    config, written = tmp_path / "engine.yaml", tmp_path / "calibration.yaml"
    config.write_text(f"model: {tiny(family.name)}\ndevice: cpu\nnum_threads: 1\n")
    asked = [
        "calibrate",
        "--config",
        config,
        "--size",
        "64x64",
        "--max-samples",
        "2",
        "-o",
        written,
    ]
    done = CliRunner().invoke(app, list(map(str, asked)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    settings = load_config(config, EngineConfig, calibration=str(written))
    calibration = load_model(settings.find_model(), settings).calibration
    assert calibration is not None
    (size,) = calibration.sizes
    assert set(size.step_ms) == {1, 2} and size.samples in (1, 2)
