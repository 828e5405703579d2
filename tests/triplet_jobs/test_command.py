"""`rayedit triplets` as a user meets it: its words, Ray, the embedded model, real photographs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from batch_jobs.stopping import Exit
from cli.main import app
from engine.spec import ModelSpec
from tests.batch_jobs.editors import dry
from tests.batch_jobs.jobs import ledger
from tests.cli.test_cli import rayedit
from tests.triplet_jobs.factories import JOB, account, factory_here, pixels, rows_of
from triplet_jobs.config import TripletConfig
from triplet_jobs.price import price

FEW = ("--num-inference-steps", "4", "--n-samples", "3", "--max-out-samples", "1")


def test_what_is_wrong_is_one_line_and_nothing_begins(album: Path, tmp_path: Path) -> None:
    wrong = rayedit("triplets", album, tmp_path / "out", "--kind", "nigth")
    assert (wrong.returncode, wrong.stdout) == (Exit.REFUSED, "")
    assert 'Did you mean "night"' in wrong.stderr and len(wrong.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_price_is_told_and_nothing_is_made(
    captions: Path, tmp_path: Path, pocket: ModelSpec
) -> None:
    asked = ["triplets", str(captions), str(tmp_path / "out"), "--pairer", "programmatic"]
    told = CliRunner().invoke(app, [*asked, "--n-samples", "3", "--rewrites", "2", "--estimate"])
    assert told.exit_code == 0, told.stderr
    assert "24 candidates: each caption has 2 x 3 = 6, of which 2 x 4" in told.stdout
    assert "model calls" not in told.stdout and "estimate: 5 rows" in told.stdout
    config = TripletConfig(job=JOB, rewrites=2, n_samples=3)
    edits = price(factory_here(captions, tmp_path / "out", config, dry(pocket)))
    assert "432 rows of model calls" in edits  # 24 x 6 steps x 3 branches
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_factory_with_the_embedded_model_over_ray(
    cluster: None, captions: Path, tmp_path: Path
) -> None:
    config = tmp_path / "factory.yaml"
    engine = "{resolution: 64, num_threads: 1}"
    config.write_text(f"rewrites: 2\njob: {{max_workers: 1, engine: {engine}}}\n")
    command = ["triplets", str(captions), str(tmp_path / "out"), "--config", str(config), *FEW]
    command += ["--kind", "night", "--kind", "sepia", "--language", "english"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == Exit.OK, done.stderr
    assert done.stdout.startswith("24 candidates: ")
    rows, kept = ledger(tmp_path / "out"), rows_of(tmp_path / "out")
    assert len(rows) == 24 and len(kept) == account(tmp_path / "out")["kept"] > 0
    assert {row["kind"] for row in kept.values()} <= {"night", "sepia"}
    for row in kept.values():
        assert pixels(row["original_image"]).shape == pixels(row["edited_image"]).shape
        assert row["edit_prompt"].isascii()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "path: data/train-*.parquet" in card and "| model | pocket |" in card
    success = json.loads((tmp_path / "out" / "_SUCCESS").read_text())
    assert success["rows"] == 24 and (tmp_path / "out" / "report.html").exists()
