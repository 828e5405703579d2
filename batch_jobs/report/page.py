"""What came of a job, for people: report.html, its figures as report.json, and a contact sheet."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.ledger.failed import failed_csv, failed_rows
from batch_jobs.ledger.layout import FAILED
from batch_jobs.manifest.plan import base_of
from batch_jobs.manifest.reading import Reading
from batch_jobs.report.charts import speed_chart
from batch_jobs.report.consistency import consistency
from batch_jobs.report.contact_sheet import SheetRow, draw_contact_sheet
from batch_jobs.report.measures import distributions
from batch_jobs.report.pairs import has_pictures, write_pairs
from batch_jobs.report.sample import DrawnStyle, drawn_outliers, sample_rows
from batch_jobs.report.templates import environment
from engine.counted import counted
from engine.options import EditOptions
from storage.storage import Storage

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
    "turn",
    "place",
    "source_sha256",
    "batch_size",
    "model_s",
    "warnings",
    "outputs",
    *(name for name in EditOptions.model_fields if name != "num_images"),
)
SLOWEST = 5
AVERAGED = ("changed_share", "outside_change")  # of `EditReport`; its measures are histograms
FAILED_SHOWN = 200  # rows; all of them are in failed.csv

HEADLINE = {  # the figures that stand first, by what the page calls them
    "rows": "rows",
    "ok": "ok",
    "failed": "failed",
    "images": "images",
    "images/s": "images_per_s",
    "samples a step": "mean_batch_size",
}
# of the figures, what the page tells of the model and the settings; the rest it draws
TOLD = ("model", "model_revision", "settings", "versions")


def write_report(storage: Storage, results: pa.Table, manifest: str, facts: dict[str, Any]) -> None:
    """Publish report.html with its pages, report.json, contact_sheet.png and failed.csv beside the
    results, of which these are `COLUMNS`."""
    reading = Reading.of(facts.get("config", {}))
    base = base_of(manifest, reading)
    sheet = sample_rows(storage, results, base, reading)
    styles = consistency(results)
    figures = _figures(results) | {"consistency": [asdict(style) for style in styles]} | facts
    storage.publish("report.json", json.dumps(figures, indent=2, ensure_ascii=False).encode())
    if sheet:
        storage.publish("contact_sheet.png", draw_contact_sheet(sheet))
    if figures["failed"]:
        storage.publish(FAILED, failed_csv(results).encode("utf-8-sig"))  # Excel asks for the BOM
    else:
        storage.remove(FAILED)
    pairs = write_pairs(storage, results, base)
    drawn = drawn_outliers(storage, styles)
    storage.publish("report.html", _page(figures, results, sheet, drawn, pairs).encode())


def _figures(results: pa.Table) -> dict[str, Any]:
    ok = results.filter(pc.equal(results["status"], "ok"))
    errors = Counter(results["error_code"].drop_null().to_pylist())
    fill = pc.mean(results["batch_size"]).as_py()
    return {
        "rows": len(results),
        "ok": len(ok),
        "failed": len(results) - len(ok),
        "images": pc.sum(ok.filter(has_pictures(ok))["num_images"]).as_py() or 0,
        "errors": dict(errors.most_common()),
        "warnings": dict(Counter(pc.list_flatten(ok["warnings"]).to_pylist()).most_common()),
        "edit_report": _mean_report(ok),
        "auto_guidance": _tries(ok),
        "measures": [asdict(found) for found in distributions(ok)],
        "mean_batch_size": None if fill is None else round(fill, 2),
        "model": next(iter(results["model"].drop_null()[:1].to_pylist()), None),
        "model_revision": next(iter(results["model_revision"].drop_null()[:1].to_pylist()), None),
    }


def _mean_report(ok: pa.Table) -> dict[str, float] | None:
    """Average the edit reports of all images that have one."""
    reports = pc.struct_field(pc.list_flatten(ok["outputs"]), "edit_report").drop_null()
    if not len(reports):
        return None
    means = {name: pc.mean(pc.struct_field(reports, name)).as_py() for name in AVERAGED}
    return {name: round(mean, 3) for name, mean in means.items()}


def _tries(ok: pa.Table) -> dict[str, Any] | None:
    """Count the images whose guidance set itself, and average their tries."""
    reports = pc.struct_field(pc.list_flatten(ok["outputs"]), "edit_report")
    guided = pc.struct_field(reports, "guided").drop_null()
    if not len(guided):
        return None
    mean = pc.mean(pc.struct_field(guided, "tries")).as_py()
    return {"images": len(guided), "mean_tries": round(mean, 2)}


def _page(
    figures: dict[str, Any],
    results: pa.Table,
    sheet: list[SheetRow],
    styles: list[DrawnStyle],
    pairs: int,
) -> str:
    told = {
        "headline": [(name, figures.get(key)) for name, key in HEADLINE.items()],
        "run": _run(figures.get("run")),
        "errors": figures["errors"],
        "failed": failed_rows(results)[:FAILED_SHOWN],
        "failed_count": figures["failed"],
        "ok_count": figures["ok"],
        "pair_count": pairs,
        "warnings": figures["warnings"],
        "edit_report": figures["edit_report"],
        "auto_guidance": figures["auto_guidance"],
        "measures": figures["measures"],
        "chart": speed_chart(figures.get("speed", ())),
        "sheet": sheet,
        "styles": styles,
        "slowest": _slowest(results),
        "settings": [row for name in TOLD for row in _settings(name, figures.get(name))],
    }
    return environment().get_template("page.html.j2").render(told)


def _run(run: dict[str, Any] | None) -> dict[str, Any] | None:
    if run is None:
        return None
    counts = {f"counted_{name}s": counted(run[f"{name}s"], name) for name in ("row", "image")}
    return run | counts


def _settings(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """List what is set, section by section, as YAML would name it."""
    if isinstance(value, Mapping):
        for inner, part in value.items():
            yield from _settings(inner if name in TOLD else f"{name}.{inner}", part)
    elif value is not None:
        yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _slowest(results: pa.Table) -> list[dict[str, Any]]:
    timed = results.select(["id", "model_s", "instruction"])
    timed = timed.filter(pc.is_valid(timed["model_s"]))
    order = [("model_s", "descending")]
    return timed.take(pc.select_k_unstable(timed, SLOWEST, order)).to_pylist()
