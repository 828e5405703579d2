"""The report of a job: counts, the speed as a chart, before and after, and nothing as markup."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq

from batch_jobs.ledger.entry import SCHEMA
from batch_jobs.ledger.layout import image_path
from batch_jobs.report import page as report
from batch_jobs.report.charts import speed_chart
from storage.storage import Storage


def results(count: int) -> pa.Table:
    rows = [
        {
            "id": f"row-{i}",
            "status": "error" if i % 10 == 0 else "ok",
            "error_code": "image_not_found" if i % 10 == 0 else None,
            "instruction": "make <it> night",
            "num_images": None if i % 10 == 0 else 2,
            "source": "gone.jpg",
            "source_sha256": "0",
            "fingerprint": "0" * 32,
            "model": "pocket",
            "batch_size": 2 + i % 2,
            "model_s": i / 10,
        }
        for i in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA).select(report.COLUMNS)


def test_the_report_shows_counts_speed_and_the_slowest_rows(tmp_path: Path) -> None:
    facts = {"images_per_s": 3.5, "speed": [(1.0, 2.0), (2.0, 4.0), (3.0, 3.0)]}
    report.write_report(Storage(str(tmp_path)), results(40), str(tmp_path / "m.parquet"), facts)
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


class Elements(HTMLParser):
    """Counts the elements of a page, and keeps its text and its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] += 1
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_nothing_that_a_manifest_says_becomes_markup(
    tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    storage = Storage(str(tmp_path))
    (tmp_path / "gone.jpg").write_bytes(photographs["coffee"])
    digest = hashlib.sha256(photographs["coffee"]).hexdigest()

    def page(hostile: str) -> Elements:
        rows = [{**row, "source_sha256": digest} for row in results(12).to_pylist()]
        for row in rows:
            row["id"], row["instruction"] = f"{row['id']}{hostile}", f"fog{hostile}"
            row["error_code"] = row["error_code"] and f"image_not_found{hostile}"
            path = image_path(row["id"], row["fingerprint"], 0)
            storage.publish(path, photographs["coffee"])
        table = pa.Table.from_pylist(rows, schema=SCHEMA).select(report.COLUMNS)
        facts = {"config": {"image_root": hostile}}
        report.write_report(storage, table, str(tmp_path / "m.parquet"), facts)
        return Elements((tmp_path / "report.html").read_text())

    text = (
        """</figcaption></td>'" onerror=alert(1)><script>alert(2)</script><img src=x>{{ 7 * 7 }}"""
    )
    plain, hostile = page(""), page(text)
    assert hostile.counts == plain.counts and plain.counts["figure"] == 6
    assert {name for name, _ in hostile.attributes} == {name for name, _ in plain.attributes}
    assert ("alt", f"fog{text}") in hostile.attributes
    assert f"fog{text}" in hostile.texts and f"image_not_found{text}" in hostile.texts


def test_pictures_that_have_left_the_manifest_are_not_in_the_report(
    tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    names = list(photographs)
    table = pa.table({"image": list(photographs.values()), "instruction": ["add fog"] * 4})
    file = str(tmp_path / "m.parquet")
    pq.write_table(table, file, row_group_size=2)
    rows = [
        {
            **row,
            "status": "ok",
            "source": None,
            "place": {"file": file, "row_group": group, "row": number},
            "source_sha256": hashlib.sha256(photographs[name]).hexdigest(),
        }
        for row, name, (group, number) in zip(
            results(4).to_pylist(), names, ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True
        )
    ]
    storage = Storage(str(tmp_path))
    for row in rows:
        storage.publish(image_path(row["id"], row["fingerprint"], 0), photographs["coffee"])

    def shown() -> int:
        report.write_report(storage, pa.Table.from_pylist(rows, schema=SCHEMA), file, {})
        return (tmp_path / "report.html").read_text().count('alt="source"')

    assert shown() == 4
    pq.write_table(table.take([0, 2, 3]), file, row_group_size=2)
    assert shown() == 1  # one is another's place now, one is beyond its group, one kept its own
    pq.write_table(table[:1], file)
    assert shown() == 1
    Path(file).write_text("no Parquet any more")
    assert shown() == 0


def test_a_run_of_one_block_has_no_chart() -> None:
    assert speed_chart([]) is speed_chart([(1.0, 2.0)]) is None
    still = speed_chart([(1.0, 0.0), (2.0, 0.0)])
    assert still is not None and "nan" not in still.corners


def test_the_chart_is_well_formed_and_stays_inside_its_frame(tmp_path: Path) -> None:
    facts = {"speed": [(0.5 * i, float(i % 7)) for i in range(1, 60)]}
    report.write_report(Storage(str(tmp_path)), results(40), str(tmp_path / "m.parquet"), facts)
    page = (tmp_path / "report.html").read_text()
    drawn = ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    corners = drawn.findall("polyline")[1].attrib["points"].split()
    width, height = float(drawn.attrib["width"]), float(drawn.attrib["height"])
    for corner in corners:
        x, y = map(float, corner.split(","))
        assert 0 <= x <= width and 0 <= y <= height
