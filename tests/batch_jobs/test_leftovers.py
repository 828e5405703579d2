"""Pictures of rows that changed or left the manifest stay until somebody asks for them to go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from batch_jobs.ledger.lease import owner_of
from batch_jobs.ledger.leftovers import leftovers
from batch_jobs.stopping import Exit
from storage.storage import Storage
from tests.batch_jobs.jobs import CONFIG, digests, good_rows, ledger, run_here

PRUNE = CONFIG.model_copy(update={"prune": True})


def test_pictures_that_no_row_names_are_told_of_and_removed_when_asked(
    manifest: Callable[..., str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows, output = [row | {"return_mask": True} for row in good_rows(4)], tmp_path / "out"
    assert run_here(manifest(rows), output) == Exit.OK
    gone, replaced = (ledger(output)[f"row-{i}"]["outputs"][0]["uri"] for i in (3, 1))
    rows[1]["instruction"] = "sepia"
    assert run_here(manifest(rows[:3]), output) == Exit.OK
    assert "the pictures of 2 rows that changed or left the manifest stay in images/" in caplog.text
    assert Path(gone).exists() and Path(replaced).exists()
    assert len(leftovers(Storage(str(output)))) == 4  # each with its mask

    assert run_here(manifest(rows[:3]), output, PRUNE) == Exit.OK
    assert "removed 4 files that no row names" in caplog.text
    assert not Path(gone).exists() and not Path(replaced).exists()
    assert owner_of(Storage(str(output))) is None
    for row in ledger(output).values():
        assert digests(row) == [out["sha256"] for out in row["outputs"]]
    assert len(list((output / "images").rglob("*.png"))) == 3


def test_a_run_may_remove_what_it_replaces(
    manifest: Callable[..., str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows, output = good_rows(3), tmp_path / "out"
    assert run_here(manifest(rows), output) == Exit.OK
    rows[1]["instruction"] = "sepia"
    assert run_here(manifest(rows), output, PRUNE) == Exit.OK
    assert "removed 1 file that no row names" in caplog.text and "stay in" not in caplog.text
    assert leftovers(Storage(str(output))) == []
