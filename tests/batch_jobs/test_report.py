"""What people read of a job: progress while it runs, the report afterwards."""

from __future__ import annotations

import json
import time
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pytest

from batch_jobs.charts import speed_chart
from batch_jobs.ledger import SCHEMA
from batch_jobs.progress import POINTS, JobProgress
from batch_jobs.report import write_report
from batch_jobs.storage import Storage


def results(count: int) -> pa.Table:
    rows = [
        {
            "id": f"row-{i}",
            "status": "error" if i % 10 == 0 else "ok",
            "error_code": "image_not_found" if i % 10 == 0 else None,
            "instruction": "make <it> night",
            "outputs": [] if i % 10 == 0 else [{"uri": "gone", "sha256": "0"}] * 2,
            "source": "gone.jpg",
            "source_sha256": "0",
            "fingerprint": "0" * 32,
            "model": "pocket",
            "batch_size": 2 + i % 2,
            "model_s": i / 10,
        }
        for i in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def test_the_report_shows_counts_speed_and_the_slowest_rows(tmp_path: Path) -> None:
    facts = {"images_per_s": 3.5, "speed": [(1.0, 2.0), (2.0, 4.0), (3.0, 3.0)]}
    write_report(Storage(str(tmp_path)), results(40), str(tmp_path / "m.parquet"), facts)
    figures = json.loads((tmp_path / "report.json").read_text())
    assert (figures["rows"], figures["ok"], figures["failed"], figures["images"]) == (40, 36, 4, 72)
    assert figures["errors"] == {"image_not_found": 4}
    assert figures["mean_batch_size"] == 2.5
    page = (tmp_path / "report.html").read_text()
    assert "Images/s over time" in page and "<polyline" in page
    slowest = page[page.index("Slowest rows") :]
    places = [slowest.index(f"row-{i}<") for i in (39, 38, 37, 36, 35)]
    assert places == sorted(places) and "row-34<" not in slowest
    assert "make &lt;it&gt; night" in page and "<it>" not in page


def test_a_run_of_one_block_has_no_chart() -> None:
    assert speed_chart([]) == speed_chart([(1.0, 2.0)]) == ""
    assert "NaN" not in speed_chart([(1.0, 0.0), (2.0, 0.0)])


def test_the_chart_is_well_formed_and_stays_inside_its_frame() -> None:
    chart = speed_chart([(0.5 * i, float(i % 7)) for i in range(1, 60)])
    drawn = ElementTree.fromstring(chart)
    corners = drawn.findall("polyline")[1].attrib["points"].split()
    width, height = float(drawn.attrib["width"]), float(drawn.attrib["height"])
    for corner in corners:
        x, y = map(float, corner.split(","))
        assert 0 <= x <= width and 0 <= y <= height


def test_the_speed_does_not_count_the_models_load() -> None:
    progress = JobProgress(40)
    time.sleep(0.5)  # the model loads
    for _ in range(10):
        progress.add(done=4, failed=0, images=4)
        time.sleep(0.02)
    assert progress.images_per_s > 2 * progress.images / progress.elapsed_s


def test_a_long_run_keeps_few_points(capsys: pytest.CaptureFixture[str]) -> None:
    progress = JobProgress(100_000)
    for _ in range(5000):
        progress.add(done=1, failed=0, images=1)
    points = progress.speed_over_time()
    assert 2 <= len(points) <= POINTS + 1
    assert [seconds for seconds, _ in points] == sorted(seconds for seconds, _ in points)
    assert capsys.readouterr().err.count("\n") <= 2
