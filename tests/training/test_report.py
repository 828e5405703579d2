"""What an evaluation tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.report import Judged, Report, Scales, write_report


def judged(kind: str, nearest: str, language: str) -> Judged:
    return Judged(kind, "chelsea", language, "do it", nearest, 20.0, 0.9)


def test_a_kind_that_was_not_taught_is_told_apart_from_those_that_were(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edits = [
        judged("night", "night", "english"),
        judged("relief", "fog", "english"),
        judged("relief", "relief", "chinese"),
    ]
    scales, understood = {1.0: 1.0, 2.0: 2.0}, {"english": (1, 2)}
    report = Report(
        Scales(3, 1.3, 8), "ab" * 32, {"a": 31.0}, edits, understood, {}, scales, scales, {}, 1
    )
    write_report(report, tmp_path / "report.md")
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert "| the edit happens, over all | 100.0% of 1 | 96% | yes |" in lines
    assert "| relief, english | 0.0% | 1 |" in lines
    assert "| relief | 1/2 | 20.0 dB | 0.90 | fog 1 |" in lines
    assert not [line for line in lines if "warned of" in line]
