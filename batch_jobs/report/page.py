"""What came of a job, for people: report.html, its figures as report.json, and a contact sheet."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from batch_jobs.ledger.failed import failed_csv, failed_rows
from batch_jobs.ledger.layout import FAILED, image_path
from batch_jobs.manifest.embedded import read_embedded
from batch_jobs.manifest.place import Place
from batch_jobs.manifest.plan import base_of
from batch_jobs.manifest.thin import image_sha256
from batch_jobs.report.charts import speed_chart
from batch_jobs.report.consistency import Outlier, StyleConsistency, consistency
from batch_jobs.report.contact_sheet import SheetRow, draw_contact_sheet, thumbnail
from engine.images import decode
from engine.options import EditOptions
from storage.sources import read_source
from storage.storage import Storage

logger = logging.getLogger(__name__)

DrawnStyle = tuple[StyleConsistency, list[tuple[Outlier, Image.Image]]]

# of the ledger, what a report is drawn from
COLUMNS = (
    "id",
    "status",
    "error_code",
    "error_message",
    "instruction",
    "num_images",
    "model",
    "model_revision",
    "fingerprint",
    "source",
    "place",
    "source_sha256",
    "batch_size",
    "model_s",
    "warnings",
    "outputs",
    *(name for name in EditOptions.model_fields if name != "num_images"),
)
SHEET_SOURCES = 6
SHEET_EDITS = 5
SLOWEST = 5
FAILED_SHOWN = 200  # rows; all of them are in failed.csv

HEADLINE = {  # the figures that stand first, by what the page calls them
    "rows": "rows",
    "ok": "ok",
    "failed": "failed",
    "images": "images",
    "images/s": "images_per_s",
    "samples a step": "mean_batch_size",
}
DRAWN = {
    *("rows", "ok", "failed", "images", "errors", "warnings", "edit_report", "speed"),
    "consistency",
}
STYLES = 6  # whose outliers are drawn


def write_report(storage: Storage, results: pa.Table, manifest: str, facts: dict[str, Any]) -> None:
    """Publish report.html, report.json, contact_sheet.png and failed.csv beside the results, of
    which these are `COLUMNS`."""
    sheet = _sheet_rows(storage, results, manifest)
    styles = consistency(results)
    figures = _figures(results) | {"consistency": [asdict(style) for style in styles]} | facts
    storage.publish("report.json", json.dumps(figures, indent=2, ensure_ascii=False).encode())
    if sheet:
        storage.publish("contact_sheet.png", draw_contact_sheet(sheet))
    if figures["failed"]:
        storage.publish(FAILED, failed_csv(results).encode("utf-8-sig"))  # Excel asks for the BOM
    else:
        storage.remove(FAILED)
    storage.publish("report.html", _page(figures, results, sheet, _drawn(storage, styles)).encode())


def _figures(results: pa.Table) -> dict[str, Any]:
    ok = results.filter(pc.equal(results["status"], "ok"))
    errors = Counter(results["error_code"].drop_null().to_pylist())
    fill = pc.mean(results["batch_size"]).as_py()
    return {
        "rows": len(results),
        "ok": len(ok),
        "failed": len(results) - len(ok),
        "images": pc.sum(ok["num_images"]).as_py() or 0,
        "errors": dict(errors.most_common()),
        "warnings": dict(Counter(pc.list_flatten(ok["warnings"]).to_pylist()).most_common()),
        "edit_report": _mean_report(ok),
        "mean_batch_size": None if fill is None else round(fill, 2),
        "model": next(iter(results["model"].drop_null()[:1].to_pylist()), None),
        "model_revision": next(iter(results["model_revision"].drop_null()[:1].to_pylist()), None),
    }


def _mean_report(ok: pa.Table) -> dict[str, float] | None:
    """Average the edit reports of all images that have one."""
    reports = pc.struct_field(pc.list_flatten(ok["outputs"]), "edit_report").drop_null()
    if not len(reports):
        return None
    names = [field.name for field in reports.type]
    return {name: round(pc.mean(pc.struct_field(reports, name)).as_py(), 3) for name in names}


def _sheet_rows(storage: Storage, results: pa.Table, manifest: str) -> list[SheetRow]:
    """A sample of the edited rows, grouped by source; one that is gone or another is left out."""
    sheet = []
    for group in _fullest_groups(results):
        try:
            data = _source_bytes(group[0], manifest)
            if image_sha256(data) != group[0]["source_sha256"]:
                continue  # another picture lies in its place now
            source = thumbnail(decode(data).image)
            edits = [(row["instruction"], thumbnail(_output(storage, row))) for row in group]
        except Exception as error:  # gone since: the sheet is a sample, and never ends a job
            logger.info("row %s is not in the report: %s", group[0]["id"], error)
            continue
        sheet.append(SheetRow(source, edits))
    return sheet


def _fullest_groups(results: pa.Table) -> Iterator[list[dict[str, Any]]]:
    """Rows of the sources that were edited most, in the order of their ids."""
    names = ["id", "status", "instruction", "fingerprint", "source", "place", "source_sha256"]
    ok = results.select(names).filter(pc.equal(results["status"], "ok")).sort_by("id")
    counts = Counter(ok["source_sha256"].to_pylist())
    fullest = sorted(counts, key=lambda digest: -min(counts[digest], SHEET_EDITS))
    for digest in fullest[:SHEET_SOURCES]:
        yield ok.filter(pc.equal(ok["source_sha256"], digest))[:SHEET_EDITS].to_pylist()


def _source_bytes(row: dict[str, Any], manifest: str) -> bytes:
    if row["place"] is None:
        return read_source(row["source"], base_of(manifest))
    found = dict(read_embedded([Place(**row["place"])])).get(0)
    return found.image or b"" if found else b""


def _output(storage: Storage, row: dict[str, Any]) -> Image.Image:
    return _opened(storage, image_path(row["id"], row["fingerprint"], 0))


def _opened(storage: Storage, path: str) -> Image.Image:
    """Open an image by its place in the output, which may have been moved."""
    return Image.open(io.BytesIO(storage.read(path)))


def _drawn(storage: Storage, styles: list[StyleConsistency]) -> list[DrawnStyle]:
    """Draw the outliers of the styles that most rows have; one that is gone is left out."""
    drawn = []
    for style in styles[:STYLES]:
        pictures = []
        for outlier in style.outliers:
            try:
                pictures.append((outlier, thumbnail(_opened(storage, outlier.path))))
            except Exception as error:  # gone since: as of a sheet
                logger.info("%s is not in the report: %s", outlier.path, error)
        drawn.append((style, pictures))
    return drawn


def _page(
    figures: dict[str, Any], results: pa.Table, sheet: list[SheetRow], styles: list[DrawnStyle]
) -> str:
    return (
        _templates()
        .get_template("page.html.j2")
        .render(
            headline=[(name, figures.get(key)) for name, key in HEADLINE.items()],
            errors=figures["errors"],
            failed=failed_rows(results)[:FAILED_SHOWN],
            failed_count=figures["failed"],
            warnings=figures["warnings"],
            edit_report=figures["edit_report"],
            chart=speed_chart(figures.get("speed", ())),
            sheet=sheet,
            styles=styles,
            slowest=_slowest(results),
            settings={name: value for name, value in figures.items() if name not in DRAWN},
        )
    )


def _templates() -> Environment:
    """Make the environment of the page: what a manifest says is text in it, never markup."""
    environment = Environment(
        loader=PackageLoader(__package__, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"data_url": _data_url, "json": json.dumps}
    return environment


def _data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _slowest(results: pa.Table) -> list[dict[str, Any]]:
    timed = results.select(["id", "model_s", "instruction"])
    timed = timed.filter(pc.is_valid(timed["model_s"]))
    order = [("model_s", "descending")]
    return timed.take(pc.select_k_unstable(timed, SLOWEST, order)).to_pylist()
