"""How alike a style came out is told of every job, and what came out otherwise is found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batch_jobs.ledger.entry import Entry, Output, to_ledger
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.report.consistency import consistency
from engine.edit import Look
from engine.options import ResolvedOptions
from storage.storage import Storage
from tests.batch_jobs.jobs import CONFIG, ledger, run_here
from tests.batch_jobs.shapes import write_lines

SPOILED = {"row-3", "row-8", "row-14"}


def look(lightness: float, border: float = 0, flat: float = 0.5) -> Look:
    return Look((lightness, 0, 0), (border, 0, 0), (flat, 1 - flat, *[0] * 8))


def entry(
    id: str, looks: tuple[Look, Look] | None, style: str | None = "line", **options: Any
) -> Entry:
    given = {"seed": 42, "num_inference_steps": 20, "style": style, **options}
    output = Output(f"/out/images/ab/{id}.png", "0", 8, 8, 42)
    if looks is not None:
        output = replace(output, source_look=looks[0], look=looks[1])
    return Entry(id, options=ResolvedOptions(**given), fingerprint="0" * 32, outputs=[output])


def made(id: str, source: float, noise: float, moved: float | None) -> tuple[Look, Look]:
    """A picture that is moved by `moved`, or made 90 light, with `noise`; or spoiled, each of
    `SPOILED` in its own way."""
    lightness = source + moved if moved is not None else 90
    lightness += noise + (25 if id == "row-3" else 0)
    border = noise + (25 if id == "row-8" else 0)
    flat = 0.5 + noise / 100 + (0.4 if id == "row-14" else 0)
    return look(source), look(lightness, border, flat)


@pytest.mark.parametrize(("moved", "tight"), [(-10.0, "shift"), (None, "result")])
def test_three_that_are_spoiled_are_the_first_three_outliers(
    moved: float | None, tight: str
) -> None:
    """In a style that moves all pictures alike, and in one that makes all of them alike."""
    generator = np.random.default_rng(3)
    noise, sources = generator.uniform(-3, 3, 20), generator.uniform(20, 80, 20)
    ids = [f"row-{i}" for i in range(20)]
    looks = [made(id, at, n, moved) for id, at, n in zip(ids, sources, noise, strict=True)]
    (found,) = consistency(to_ledger(entry(*one) for one in zip(ids, looks, strict=True)))
    assert (found.style, found.images, len(found.outliers)) == ("line", 20, 5)
    by = {outlier.id: outlier.by for outlier in found.outliers[:3]}
    assert by == {"row-3": "lab", "row-8": "border_lab", "row-14": "texture"}
    assert found.outliers[2].times_spread > 2 * found.outliers[3].times_spread
    loose = "result" if tight == "shift" else "shift"
    assert getattr(found.lab, loose) > 5 * getattr(found.lab, tight)
    lightness = np.array([r.lab[0] - (s.lab[0] if tight == "shift" else 0) for s, r in looks])
    spread = np.median(np.abs(lightness - np.median(lightness)))
    assert getattr(found.lab, tight) == pytest.approx(spread, abs=1e-4)
    assert found.outliers[0].path.startswith("images/")


def test_each_style_is_looked_at_alone_and_says_what_was_locked() -> None:
    still = look(50), look(50)
    entries = [entry(f"a-{i}", still, seed=i) for i in range(4)]
    entries += [entry(f"b-{i}", still, "soft", guidance_scale=2.0) for i in range(3)]
    entries += [entry(f"c-{i}", still, "rare") for i in range(2)]  # too few for a spread
    entries += [entry("plain", None, None), Entry("failed", status="error")]
    line, soft = consistency(to_ledger(entries))
    assert (line.style, line.images, line.lab.shift, line.lab.result) == ("line", 4, 0, 0)
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
    assert (told["style"], told["images"], told["lab"]["result"]) == ("sketch", 16, 0)
    assert {outlier["id"] for outlier in told["outliers"][:3]} == SPOILED
    assert told["locked"]["num_inference_steps"] == 2 and told["differing"] == ["seed"]
    page = (out / "report.html").read_text()
    for outlier in told["outliers"]:
        assert f'<a href="{outlier["path"]}"><img' in page
        assert (out / outlier["path"]).exists()
    rows_after = ledger(out)
    assert rows_after["plain"]["outputs"][0]["look"] is None
    assert rows_after["row-1"]["outputs"][0]["look"] == rows_after["row-2"]["outputs"][0]["look"]
    assert Ledger(Storage(str(out))).read().num_rows == 17
