"""What came of a job, for people: report.html, its figures as report.json, and a contact sheet."""

from __future__ import annotations

import base64
import html
import io
import json
from collections import Counter
from typing import Any

import pyarrow as pa
from PIL import Image

from batch_jobs.contact_sheet import SheetRow, draw_contact_sheet, thumbnail
from batch_jobs.manifest import base_of, read_embedded
from batch_jobs.storage import Storage
from batch_jobs.writer import image_path
from engine.errors import EngineError
from engine.images import decode
from engine.sources import read_source

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
    """Publish report.html, report.json and contact_sheet.png beside the results."""
    rows = results.to_pylist()
    sheet = _sheet_rows(storage, rows, manifest)
    figures = _figures(rows) | facts
    storage.publish("report.json", json.dumps(figures, indent=2, ensure_ascii=False).encode())
    if sheet:
        storage.publish("contact_sheet.png", draw_contact_sheet(sheet))
    storage.publish("report.html", _page(figures, rows, sheet).encode())


def _figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    errors = Counter(row["error_code"] for row in rows if row["status"] == "error")
    fills = [row["batch_size"] for row in rows if row["batch_size"]]
    return {
        "rows": len(rows),
        "ok": sum(row["status"] == "ok" for row in rows),
        "failed": sum(errors.values()),
        "images": sum(len(row["outputs"] or ()) for row in rows if row["status"] == "ok"),
        "errors": dict(errors.most_common()),
        "mean_batch_size": round(sum(fills) / len(fills), 2) if fills else None,
        "model": next((row["model"] for row in rows if row["model"]), None),
        "model_revision": next((row["model_revision"] for row in rows if row["model"]), None),
    }


def _sheet_rows(storage: Storage, rows: list[dict[str, Any]], manifest: str) -> list[SheetRow]:
    """A sample of the edited rows, grouped by source; a source that is gone is left out."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["id"]):
        if row["status"] == "ok":
            groups.setdefault(row["source_sha256"], []).append(row)
    fullest = sorted(groups.values(), key=lambda group: -min(len(group), SHEET_EDITS))
    sheet = []
    for group in fullest[:SHEET_SOURCES]:
        try:
            source = thumbnail(decode(_source_bytes(group[0]["source"], manifest)).image)
            edits = [
                (row["instruction"], thumbnail(_output(storage, row)))
                for row in group[:SHEET_EDITS]
            ]
        except (EngineError, OSError):  # gone since: the sheet is a sample, the ledger is not
            continue
        sheet.append(SheetRow(source, edits))
    return sheet


def _source_bytes(source: str, manifest: str) -> bytes:
    file, _, place = source.rpartition("#")
    group, _, row = place.partition(".")
    if file and group.isdigit() and row.isdigit():
        plan = [{"image_sha256": "", "file": file, "row_group": int(group), "row": int(row)}]
        return next(iter(dict(read_embedded(plan)).values())) or b""
    return read_source(source, base_of(manifest))


def _output(storage: Storage, row: dict[str, Any]) -> Image.Image:
    path = image_path(row["id"], row["fingerprint"], 0)  # the output may have been moved
    return Image.open(io.BytesIO(storage.read(path)))


def _page(figures: dict[str, Any], rows: list[dict[str, Any]], sheet: list[SheetRow]) -> str:
    return "\n".join(
        [
            "<!doctype html><html lang=en><meta charset=utf-8>",
            "<meta name=viewport content='width=device-width'>",
            f"<title>rayedit report</title><style>{_STYLE}</style>",
            "<h1>rayedit report</h1>",
            _figures_table(figures),
            _error_histogram(figures["errors"]),
            "<h2>Before and after</h2>",
            *(_sheet_line(row) for row in sheet),
            _slowest(rows),
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


def _slowest(rows: list[dict[str, Any]]) -> str:
    timed = sorted((row for row in rows if row["model_s"]), key=lambda row: -row["model_s"])
    lines = "".join(
        f"<tr><td>{html.escape(row['id'])}</td><td>{row['model_s']:.2f} s</td>"
        f"<td>{html.escape(row['instruction'])}</td></tr>"
        for row in timed[:SLOWEST]
    )
    return f"<h2>Slowest rows</h2><table>{lines}</table>" if lines else ""


def _facts(figures: dict[str, Any]) -> str:
    lines = "".join(
        f"<tr><td>{html.escape(name)}</td><td><code>{html.escape(json.dumps(value))}</code></td>"
        for name, value in figures.items()
        if name not in ("errors", "rows", "ok", "failed", "images")
    )
    return f"<h2>Settings and versions</h2><table>{lines}</table>"
