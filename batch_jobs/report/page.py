"""What came of a job, for people: report.html, its figures as report.json, and a contact sheet."""

from __future__ import annotations

import base64
import html
import io
import json
import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from batch_jobs.manifest.plan import base_of, read_embedded
from batch_jobs.manifest.rows import sha256
from batch_jobs.report.charts import speed_chart
from batch_jobs.report.contact_sheet import SheetRow, draw_contact_sheet, thumbnail
from batch_jobs.stages.publish import image_path
from batch_jobs.storage.storage import Storage
from engine.images import decode
from storage.sources import read_source

logger = logging.getLogger(__name__)

# of the ledger, what a report is drawn from
COLUMNS = (
    "id",
    "status",
    "error_code",
    "instruction",
    "num_images",
    "model",
    "model_revision",
    "fingerprint",
    "source",
    "source_sha256",
    "batch_size",
    "model_s",
)
SHEET_SOURCES = 6
SHEET_EDITS = 5
SLOWEST = 5

_STYLE = """
body{font:15px/1.5 system-ui,"PingFang SC","Microsoft YaHei",sans-serif;margin:2rem auto;
max-width:1080px;padding:0 1rem;color:#1b1b1b}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse}td,th{padding:.25rem .9rem .25rem 0;text-align:left;
vertical-align:top}
.n{font-size:1.6rem;font-weight:600}.figures td{padding-right:2.5rem}
.bar{background:#c8452d;height:.8rem;display:inline-block;border-radius:2px}
.line{display:flex;gap:14px;flex-wrap:wrap;margin-bottom:18px}
figure{margin:0;width:168px}img{max-width:168px;border-radius:4px;display:block}
figcaption{font-size:13px;color:#333;overflow-wrap:anywhere}.source figcaption{color:#888}
code{font-size:13px}
"""


def write_report(storage: Storage, results: pa.Table, manifest: str, facts: dict[str, Any]) -> None:
    """Publish report.html, report.json and contact_sheet.png beside the results, of which these
    are `COLUMNS`."""
    sheet = _sheet_rows(storage, results, manifest)
    figures = _figures(results) | facts
    storage.publish("report.json", json.dumps(figures, indent=2, ensure_ascii=False).encode())
    if sheet:
        storage.publish("contact_sheet.png", draw_contact_sheet(sheet))
    storage.publish("report.html", _page(figures, results, sheet).encode())


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
        "mean_batch_size": None if fill is None else round(fill, 2),
        "model": next(iter(results["model"].drop_null()[:1].to_pylist()), None),
        "model_revision": next(iter(results["model_revision"].drop_null()[:1].to_pylist()), None),
    }


def _sheet_rows(storage: Storage, results: pa.Table, manifest: str) -> list[SheetRow]:
    """A sample of the edited rows, grouped by source; one that is gone or another is left out."""
    sheet = []
    for group in _fullest_groups(results):
        try:
            data = _source_bytes(group[0]["source"], manifest)
            if sha256(data) != group[0]["source_sha256"]:
                continue  # another picture lies in its place now
            source = thumbnail(decode(data).image)
            edits = [(row["instruction"], thumbnail(_output(storage, row))) for row in group]
        except Exception as error:  # gone since: the sheet is a sample, and never ends a job
            logger.info("%s is not in the report: %s", group[0]["source"], error)
            continue
        sheet.append(SheetRow(source, edits))
    return sheet


def _fullest_groups(results: pa.Table) -> Iterator[list[dict[str, Any]]]:
    """Rows of the sources that were edited most, in the order of their ids."""
    names = ["id", "status", "instruction", "fingerprint", "source", "source_sha256"]
    ok = results.select(names).filter(pc.equal(results["status"], "ok")).sort_by("id")
    counts = Counter(ok["source_sha256"].to_pylist())
    fullest = sorted(counts, key=lambda digest: -min(counts[digest], SHEET_EDITS))
    for digest in fullest[:SHEET_SOURCES]:
        yield ok.filter(pc.equal(ok["source_sha256"], digest))[:SHEET_EDITS].to_pylist()


def _source_bytes(source: str, manifest: str) -> bytes:
    file, _, place = source.rpartition("#")
    group, _, row = place.partition(".")
    if file and group.isdigit() and row.isdigit():
        plan = [{"image_sha256": "", "file": file, "row_group": int(group), "row": int(row)}]
        return next(iter(dict(read_embedded(plan)).values()), None) or b""
    return read_source(source, base_of(manifest))


def _output(storage: Storage, row: dict[str, Any]) -> Image.Image:
    path = image_path(row["id"], row["fingerprint"], 0)  # the output may have been moved
    return Image.open(io.BytesIO(storage.read(path)))


def _page(figures: dict[str, Any], results: pa.Table, sheet: list[SheetRow]) -> str:
    return "\n".join(
        [
            "<!doctype html><html lang=en><meta charset=utf-8>",
            "<meta name=viewport content='width=device-width'>",
            f"<title>rayedit report</title><style>{_STYLE}</style>",
            "<h1>rayedit report</h1>",
            _figures_table(figures),
            _error_histogram(figures["errors"]),
            _speed(figures),
            "<h2>Before and after</h2>",
            *(_sheet_line(row) for row in sheet),
            _slowest(results),
            _facts(figures),
            "</html>",
        ]
    )


def _figures_table(figures: dict[str, Any]) -> str:
    shown = {
        "rows": figures["rows"],
        "ok": figures["ok"],
        "failed": figures["failed"],
        "images": figures["images"],
        "images/s": figures.get("images_per_s"),
        "samples a step": figures["mean_batch_size"],
    }
    cells = "".join(
        f"<td><div class=n>{html.escape(str(value))}</div>{name}</td>"
        for name, value in shown.items()
        if value is not None
    )
    return f"<table class=figures><tr>{cells}</tr></table>"


def _error_histogram(errors: dict[str, int]) -> str:
    if not errors:
        return ""
    most = max(errors.values())
    lines = "".join(
        f"<tr><td><code>{html.escape(code)}</code></td><td>{count}</td>"
        f"<td><span class=bar style='width:{300 * count / most:.0f}px'></span></td></tr>"
        for code, count in errors.items()
    )
    return f"<h2>Failed rows by code</h2><table>{lines}</table>"


def _sheet_line(row: SheetRow) -> str:
    tiles = [_figure(row.source, "source", "source")]
    tiles += [_figure(image, caption, "edit") for caption, image in row.edits]
    return f"<div class=line>{''.join(tiles)}</div>"


def _figure(image: Image.Image, caption: str, kind: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode()
    text = html.escape(caption)
    return (
        f"<figure class={kind}><img alt='{html.escape(caption, quote=True)}' "
        f"src='data:image/jpeg;base64,{data}'><figcaption>{text}</figcaption></figure>"
    )


def _speed(figures: dict[str, Any]) -> str:
    chart = speed_chart(figures.get("speed", ()))
    return f"<h2>Images/s over time</h2>{chart}" if chart else ""


def _slowest(results: pa.Table) -> str:
    timed = results.select(["id", "model_s", "instruction"])
    timed = timed.filter(pc.is_valid(timed["model_s"]))
    slowest = timed.take(pc.select_k_unstable(timed, SLOWEST, [("model_s", "descending")]))
    lines = "".join(
        f"<tr><td>{html.escape(row['id'])}</td><td>{row['model_s']:.2f} s</td>"
        f"<td>{html.escape(row['instruction'])}</td></tr>"
        for row in slowest.to_pylist()
    )
    return f"<h2>Slowest rows</h2><table>{lines}</table>" if lines else ""


def _facts(figures: dict[str, Any]) -> str:
    lines = "".join(
        f"<tr><td>{html.escape(name)}</td><td><code>{html.escape(json.dumps(value))}</code></td>"
        for name, value in figures.items()
        if name not in ("errors", "rows", "ok", "failed", "images", "speed")
    )
    return f"<h2>Settings and versions</h2><table>{lines}</table>"
