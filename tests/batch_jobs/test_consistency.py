"""How alike a style came out is told of every job, and what came out otherwise is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batch_jobs.ledger.entry import Entry, Output, to_ledger
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.report.consistency import consistency
from engine.edit import StyleShift
from engine.options import ResolvedOptions
from storage.storage import Storage
from tests.batch_jobs.jobs import CONFIG, ledger, run_here
from tests.batch_jobs.shapes import write_lines

SPOILED = {"row-3", "row-8", "row-14"}


def entry(id: str, shift: StyleShift | None, style: str | None = "line", **options: Any) -> Entry:
    given = {"seed": 42, "num_inference_steps": 20, "style": style, **options}
    output = Output(f"/out/images/ab/{id}.png", "0", 8, 8, 42, style_shift=shift)
    return Entry(id, options=ResolvedOptions(**given), fingerprint="0" * 32, outputs=[output])


def shifted(id: str, at: float) -> StyleShift:
    """About -10 of lightness, by `at` more or less; spoiled ones far from it, each in its own."""
    lightness = -40.0 if id == "row-3" else -10 + at
    texture = 0.6 if id == "row-14" else 0.2 + at / 100
    return StyleShift((lightness, 0, 0), (at, 30.0 if id == "row-8" else 0, 0), texture)


def test_three_that_are_spoiled_are_the_first_three_outliers() -> None:
    noise = np.random.default_rng(3).uniform(-3, 3, 20)
    ids = [f"row-{i}" for i in range(20)]
    entries = [entry(id, shifted(id, at)) for id, at in zip(ids, noise, strict=True)]
    (found,) = consistency(to_ledger(entries))
    assert (found.style, found.images, len(found.outliers)) == ("line", 20, 5)
    assert {outlier.id for outlier in found.outliers[:3]} == SPOILED
    assert found.outliers[2].times_spread > 3 * found.outliers[3].times_spread
    lightness = np.array([shifted(id, at).lab[0] for id, at in zip(ids, noise, strict=True)])
    spread = np.median(np.abs(lightness - np.median(lightness)))
    assert found.lab_spread == pytest.approx(spread, abs=1e-4)
    assert found.outliers[0].path.startswith("images/")


def test_each_style_is_looked_at_alone_and_says_what_was_locked() -> None:
    still = StyleShift((0, 0, 0), (0, 0, 0), 0)
    entries = [entry(f"a-{i}", still, seed=i) for i in range(4)]
    entries += [entry(f"b-{i}", still, "soft", guidance_scale=2.0) for i in range(3)]
    entries += [entry(f"c-{i}", still, "rare") for i in range(2)]  # too few for a spread
    entries += [entry("plain", None, None), Entry("failed", status="error")]
    line, soft = consistency(to_ledger(entries))
    assert (line.style, line.images, line.lab_spread) == ("line", 4, 0)
    assert "seed" in line.differing and "seed" not in line.locked
    assert line.locked["num_inference_steps"] == 20
    assert (soft.locked["seed"], soft.locked["guidance_scale"], soft.differing) == (42, 2.0, [])
    assert [outlier.times_spread for outlier in soft.outliers] == [0, 0, 0]


def test_an_output_without_styles_or_measures_has_no_such_part() -> None:
    assert consistency(to_ledger([entry(f"{i}", None) for i in range(5)])) == []
    assert consistency(to_ledger([])) == []


def test_a_jobs_report_draws_and_links_what_came_out_otherwise(
    tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    """Plain pictures, as grey as their noise: those with a seed of their own are the spoiled."""
    (tmp_path / "coffee.jpg").write_bytes(photographs["coffee"])
    rows = [
        {"id": f"row-{i}", "image": "coffee.jpg", "style": "sketch", "num_inference_steps": 2}
        for i in range(16)
    ]
    for row in rows:
        row.update({"seed": 5} if row["id"] in SPOILED else {})
    rows.append({"id": "plain", "image": "coffee.jpg", "instruction": "add fog"})
    out = tmp_path / "out"
    assert run_here(write_lines(tmp_path / "m.jsonl", rows), out, CONFIG) == 0
    (told,) = json.loads((out / "report.json").read_text())["consistency"]
    assert (told["style"], told["images"], told["lab_spread"]) == ("sketch", 16, 0)
    assert {outlier["id"] for outlier in told["outliers"][:3]} == SPOILED
    assert told["locked"]["num_inference_steps"] == 2 and told["differing"] == ["seed"]
    page = (out / "report.html").read_text()
    for outlier in told["outliers"]:
        assert f'<a href="{outlier["path"]}"><img' in page
        assert (out / outlier["path"]).exists()
    rows_after = ledger(out)
    assert rows_after["plain"]["outputs"][0]["style_shift"] is None
    assert (
        rows_after["row-1"]["outputs"][0]["style_shift"]
        == rows_after["row-2"]["outputs"][0]["style_shift"]
    )
    assert Ledger(Storage(str(out))).read().num_rows == 17
