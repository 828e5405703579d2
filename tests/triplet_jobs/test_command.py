"""`rayedit triplets` as a user meets it: a process, Ray, the embedded model, real photographs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batch_jobs.stopping import Exit
from tests.batch_jobs.jobs import ledger
from tests.cli.test_cli import rayedit
from tests.triplet_jobs.factories import account, pixels, rows_of

FEW = ("--num-inference-steps", "4", "--n-samples", "3", "--max-out-samples", "1")


def test_what_is_wrong_is_one_line_and_nothing_begins(album: Path, tmp_path: Path) -> None:
    wrong = rayedit("triplets", album, tmp_path / "out", "--kind", "nigth")
    assert (wrong.returncode, wrong.stdout) == (Exit.REFUSED, "")
    assert 'Did you mean "night"' in wrong.stderr and len(wrong.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_factory_with_the_embedded_model_over_ray(captions: Path, tmp_path: Path) -> None:
    config = tmp_path / "factory.yaml"
    config.write_text("rewrites: 2\njob: {engine: {resolution: 64, num_threads: 1}}\n")
    command = ("triplets", captions, tmp_path / "out", "--config", config, *FEW)
    command += ("--kind", "night", "--kind", "sepia", "--language", "english")
    price = rayedit(*command, "--estimate")
    assert price.returncode == 0, price.stderr
    assert "24 candidates: each caption has 2 x 3 = 6, of which 2 x 1" in price.stdout
    assert "288 rows of model calls" in price.stdout  # 24 x 4 steps x 3 branches
    assert not (tmp_path / "out").exists()
    done = rayedit(*command)
    assert done.returncode == Exit.OK, done.stderr
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
