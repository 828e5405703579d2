"""Measures and repair through both doors: the same picture, the same report, the same warnings."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from batch_jobs.config import JobConfig
from batch_jobs.export.columns import PeoplesTable
from batch_jobs.ledger.entry import Entry, from_ledger
from batch_jobs.records import to_table
from batch_jobs.stages.edit import EditedRow
from batch_jobs.stages.in_process import StagesHere
from batch_jobs.stages.publish import publish_rows
from benchmarks.spoiling import tinge
from engine import EditActor, EngineConfig
from engine.edit import EditResult, Guided
from engine.options import EditOptions
from engine.registry import find_model
from engine.sources import Prepared, Source, prepare
from engine.spec import ModelSpec
from serve_app.ingress.codec_tasks import render
from storage.storage import Storage
from tests.batch_jobs.jobs import job_here, left
from tests.batch_jobs.shapes import write_lines
from tests.conftest import photograph, png

POCKET = find_model("pocket")


def edited(**given: object) -> tuple[Prepared, EditResult]:
    """A blurred edit with a cast, as a model might have made it."""
    options = POCKET.resolve(EditOptions.parse({"seed": 1, **given}), 0)
    edit = prepare("a", Source(png(photograph("coffee"))), "frame it", options, POCKET)
    framed = edit.request.pixels.copy()
    framed[:12] = framed[-12:] = framed[:, :12] = framed[:, -12:] = 255
    made = tinge(cv2.GaussianBlur(framed, (0, 0), 2), 5, 3)
    return edit, EditResult("a", [made], [1], reconstructed=edit.request.pixels)


def test_a_ledger_and_an_answer_say_the_same_of_the_same_edit(tmp_path: Path) -> None:
    reports = []
    for repair in ("none", "sharpen", "colour", "both"):
        edit, result = edited(measures="full", repair=repair)
        (sent,) = render(result, edit.finishing, "png", None)
        storage = Storage(str(tmp_path / repair))
        storage.make()
        row = EditedRow(Entry("a", fingerprint="0" * 32), edit.finishing, result)
        (entry,) = from_ledger(publish_rows(to_table(EditedRow, [row]), storage))
        (output,) = entry.outputs
        assert Path(output.uri).read_bytes() == base64.b64decode(sent.b64)
        assert sent.report is not None and sent.report.measured is not None
        assert output.edit_report == sent.report
        assert entry.warnings == list(sent.warnings)
        reports.append(sent.report)
    assert [report.repaired for report in reports] == [
        (),
        ("sharpened",),
        ("recoloured",),
        ("sharpened", "recoloured"),
    ]
    assert len({report.measured for report in reports}) == 4


@pytest.mark.parametrize("way", ["on", "fast"])
def test_a_ledger_an_answer_and_a_table_say_alike_which_scales_were_chosen(
    tmp_path: Path, way: str
) -> None:
    edit, made = edited(auto_guidance=way, detail="model")
    result = replace(made, guided=Guided(2, 3.4, 1.13, 0.75, 0.5))
    (sent,) = render(result, edit.finishing, "png", None)
    storage = Storage(str(tmp_path))
    storage.make()
    row = EditedRow(Entry("a", options=edit.request.options), edit.finishing, result)
    table = publish_rows(to_table(EditedRow, [row]), storage)
    (entry,) = from_ledger(table)
    (output,) = entry.outputs
    assert Path(output.uri).read_bytes() == base64.b64decode(sent.b64)
    assert sent.report is not None and sent.report.guided == result.guided
    assert output.edit_report == sent.report
    people = PeoplesTable(storage, str(tmp_path), table)
    cells = dict(zip(people.head, next(people.rows()), strict=True))
    assert (cells["tries"], cells["scales"]) == (2, "3.4 / 1.13")
    assert (cells["auto_guidance"], cells["guidance_scale"]) == (way, 3.0)  # as it was asked for


def test_guidance_that_sets_itself_ends_at_the_same_bytes_in_a_job_and_in_an_answer(
    tmp_path: Path, photographs: dict[str, bytes], pocket: ModelSpec, strict_actor: EditActor
) -> None:
    scales = {"guidance_scale": 20.0, "image_guidance_scale": 0.0, "auto_guidance": "on"}
    asked = {"seed": 11, "num_inference_steps": 3, **scales}
    (tmp_path / "coffee.jpg").write_bytes(photographs["coffee"])
    line = {"id": "a", "image": "coffee.jpg", "instruction": "add fog", **asked}
    strict = EngineConfig(resolution=64, determinism="strict", num_threads=1)
    manifest = write_lines(tmp_path / "m.jsonl", [line])
    job = job_here(manifest, tmp_path / "out", JobConfig(engine=strict), pocket)
    run = job.block_run(left(job))
    with StagesHere(run) as stages:
        (entry,) = from_ledger(stages.publish(stages.edit(stages.decode(run.todo))))
    options = pocket.resolve(EditOptions.parse(asked), 0)
    edit = prepare("a", Source(photographs["coffee"]), "add fog", options, pocket)
    (result,) = strict_actor.edit_batch([edit.request])
    assert isinstance(result, EditResult)
    (sent,) = render(result, edit.finishing, "png", None)
    assert Path(entry.outputs[0].uri).read_bytes() == base64.b64decode(sent.b64)
    report = entry.outputs[0].edit_report
    assert report == sent.report and report is not None and report.guided is not None
    assert report.guided.tries > 1
    assert entry.warnings == [*result.warnings, *sent.warnings]
