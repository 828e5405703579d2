"""The report of a job: counts, the speed as a chart, before and after, and nothing as markup."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser

from batch_jobs.ledger.entry import SCHEMA
from batch_jobs.ledger.layout import image_path
from batch_jobs.report import page as report
from batch_jobs.report.charts import LEFT_PX, speed_chart
from batch_jobs.report.pairs import relative_url, write_pairs
from engine.edit import Measured
from storage.storage import Storage
from tests.serve_app.browser import chromium

__all__ = ["chromium"]  # a fixture


def output(id: str) -> dict[str, Any]:
    """What the ledger says of the picture of a row, of an output that was somewhere else then."""
    uri = f"/before/it/moved/{image_path(id, '0' * 32, 0)}"
    return {"uri": uri, "sha256": "0", "width_px": 600, "height_px": 400, "seed": 0}


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
            "outputs": [] if i % 10 == 0 else [output(f"row-{i}")],
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
            row["outputs"] = [output(row["id"])] if row["status"] == "ok" else []
            storage.publish(image_path(row["id"], "0" * 32, 0), photographs["coffee"])
        table = pa.Table.from_pylist(rows, schema=SCHEMA).select(report.COLUMNS)
        facts = {"settings": {"image_root": hostile}}
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


def measured(count: int) -> list[dict[str, Any]]:
    """Rows whose pictures were measured, but for the first; as sharp as their number says."""
    rows = results(count).to_pylist()
    for number, row in enumerate(rows):
        values = dict.fromkeys((field.name for field in fields(Measured)), 0.5)
        of_one = {**values, "sharpness_ratio": number / count, "displacement": None}
        for made in row["outputs"]:
            made["edit_report"] = {
                "changed_share": 0.25,
                "outside_change": 2.0,
                "measured": of_one if number > 1 else None,
                "repaired": ["sharpened"],
                "guided": {
                    "tries": 3 if number == 1 else 2,
                    "guidance_scale": 3.0,
                    "image_guidance_scale": 1.3,
                    "following": None,
                    "keeping": 0.9,
                },
            }
    return rows


def test_what_was_measured_is_drawn_as_a_histogram_of_each_measure(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(measured(100), schema=SCHEMA).select(report.COLUMNS)
    report.write_report(Storage(str(tmp_path)), table, str(tmp_path / "m.parquet"), {})
    figures = json.loads((tmp_path / "report.json").read_text())
    found = {one["name"]: one for one in figures["measures"]}
    assert "displacement" not in found and "ssim" in found
    sharpness = found["sharpness_ratio"]
    assert sharpness["images"] == sum(sharpness["counts"]) == 89
    assert (sharpness["least"], sharpness["greatest"]) == (0.02, 0.99)
    assert figures["edit_report"] == {"changed_share": 0.25, "outside_change": 2.0}
    tries = figures["auto_guidance"]
    assert tries == {"images": 90, "mean_tries": 2.01}
    page = (tmp_path / "report.html").read_text()
    drawn = page[page.index('aria-label="sharpness_ratio"') :]
    assert drawn[: drawn.index("</svg>")].count("<rect") == sum(map(bool, sharpness["counts"]))
    report.write_report(Storage(str(tmp_path)), results(9), str(tmp_path / "m.parquet"), {})
    assert "What was measured" not in (tmp_path / "report.html").read_text()


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
            "outputs": [output(row["id"])],
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
    assert speed_chart([(0.0, 9.0), (0.0, 8.0)]) is None  # a job of a moment
    still = speed_chart([(1.0, 0.0), (2.0, 0.0)])
    assert still is not None and "nan" not in still.corners


def test_the_chart_is_well_formed_and_stays_inside_its_frame(tmp_path: Path) -> None:
    facts = {"speed": [(0.5 * i, float(i % 7)) for i in range(1, 60)]}
    report.write_report(Storage(str(tmp_path)), results(40), str(tmp_path / "m.parquet"), facts)
    page = (tmp_path / "report.html").read_text()
    drawn = ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    corners = drawn.findall("polyline")[1].attrib["points"].split()
    _, _, width, height = map(float, drawn.attrib["viewBox"].split())
    first, second = (corner.split(",") for corner in corners[:2])
    assert float(first[0]) == LEFT_PX and first[1] == second[1]  # it begins when editing does
    for corner in corners:
        x, y = map(float, corner.split(","))
        assert 0 <= x <= width and 0 <= y <= height


class Links(HTMLParser):
    """Lists where the links and the pictures of a page lead."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.pictures: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links += [given["href"] or ""] if tag == "a" else []
        self.pictures += [given["src"] or ""] if tag == "img" else []


def test_every_picture_is_on_a_page_beside_its_source_and_linked_to_its_file(
    tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    (tmp_path / "夜 #1").mkdir()
    source, folder = tmp_path / "夜 #1" / "a%b.jpg", tmp_path / "out"
    source.write_bytes(photographs["coffee"])
    storage = Storage(str(folder))
    rows = results(150).to_pylist()
    for row in rows:
        row["source"] = "夜 #1/a%b.jpg"
        storage.publish(image_path(row["id"], row["fingerprint"], 0), photographs["coffee"])
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    write_pairs(storage, table, str(tmp_path))
    pages = sorted((folder / "report").iterdir())
    assert [page.name for page in pages] == [f"pairs-{n}.html" for n in (1, 2, 3)]
    shown: list[str] = []
    for page in pages:
        found = Links(page)
        assert set(found.pictures) <= set(found.links)
        for url in found.links:
            assert url.startswith("../report.html") or (page.parent / unquote(url)).exists(), url
        shown += [url for url in found.pictures if url.startswith("../images/")]
        assert len(found.pictures) == 2 * found.pictures.count(found.pictures[0])
        assert (page.parent / unquote(found.pictures[0])).samefile(source)
    assert len(set(shown)) == len(shown) == 135

    write_pairs(storage, table[:20], str(tmp_path / "m.parquet"))
    assert [page.name for page in (folder / "report").iterdir()] == ["pairs-1.html"]


def test_a_source_in_other_storage_is_named_and_not_linked() -> None:
    assert relative_url("s3://bucket/a.jpg", "/out/report") is None
    assert relative_url("/a.jpg", "s3://bucket/out/report") is None
    assert relative_url("s3://bucket/in/a b.jpg", "s3://bucket/out/report") == "../../in/a%20b.jpg"
    assert relative_url("file:///in/a%20b.jpg", "/out/report") == "../../in/a%20b.jpg"


def test_the_speed_of_the_page_is_its_rows_over_its_time(tmp_path: Path) -> None:
    run = {"rows": 1, "images": 60, "begin_s": 9.5, "editing_s": 24.0, "images_per_s": 2.5}
    settings = {"engine": {"options": {"guidance_scale": 4.0}, "resolution": None}}
    facts = {"run": run, "settings": settings, "versions": {"ray": "2.60.0"}}
    report.write_report(Storage(str(tmp_path)), results(3), str(tmp_path / "m.parquet"), facts)
    texts = " ".join(Elements((tmp_path / "report.html").read_text()).texts)
    assert (
        "1 row, 60 images in 24.0 s of editing, 2.5 images/s. Ray and the model took 9.5" in texts
    )
    assert "1 行、60 张图片，修图用时 24.0 秒，每秒 2.5 张" in texts
    page = (tmp_path / "report.html").read_text()
    assert "<td>engine.options.guidance_scale</td><td>4.0</td>" in page
    assert "<td>ray</td><td>2.60.0</td>" in page and "resolution" not in page


def test_a_long_list_of_failed_rows_is_cut_and_says_how_many_there_are(tmp_path: Path) -> None:
    rows = [{**row, "status": "error", "error_code": "x"} for row in results(300).to_pylist()]
    table = pa.Table.from_pylist(rows, schema=SCHEMA).select(report.COLUMNS)
    report.write_report(Storage(str(tmp_path)), table, str(tmp_path / "m.parquet"), {})
    texts = " ".join(Elements((tmp_path / "report.html").read_text()).texts)
    assert "200 of 300; all of them are in" in texts and "共 300 行" in texts
    assert "row-199" in texts and "row-200" not in texts
    assert len((tmp_path / "failed.csv").read_text().splitlines()) == 301


@pytest.mark.slow
def test_a_report_is_read_on_a_phone_and_in_chinese(
    chromium: Browser, tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    folder = tmp_path / "out"
    storage = Storage(str(folder))
    rows = [row | {"source": "a.jpg"} for row in measured(150)]
    (tmp_path / "a.jpg").write_bytes(photographs["coffee"])
    for row in rows:
        row["source_sha256"] = hashlib.sha256(photographs["coffee"]).hexdigest()
        row["error_message"] = row["error_code"] and f"/a/very/long/path{'/of/folders' * 20}"
        storage.publish(image_path(row["id"], row["fingerprint"], 0), photographs["chelsea"])
    facts = {"speed": [(1.0, 2.0), (2.0, 4.0)], "settings": {"path": "/x" * 200}}
    table = pa.Table.from_pylist(rows, schema=SCHEMA).select(report.COLUMNS)
    report.write_report(storage, table, str(tmp_path / "m.parquet"), facts)
    for locale, words, others in (
        ("zh-CN", "失败的行", "Failed rows"),
        ("en-GB", "Failed rows", "失败"),
    ):
        page = chromium.new_context(
            viewport={"width": 390, "height": 844}, locale=locale
        ).new_page()
        for name in ("report.html", "report/pairs-2.html"):
            page.goto((folder / name).as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") == 390, name
            broken = "[...document.images].filter(i => i.complete && !i.naturalWidth).length"
            assert page.evaluate(broken) == 0
        page.goto((folder / "report.html").as_uri())
        text = page.inner_text("body")
        assert words in text and others not in text
        page.context.close()
