"""A job with styles: they are written out when it is planned, and a changed one redoes its rows."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs.config import JobConfig
from batch_jobs.job import Job
from batch_jobs.manifest.plan import read_manifest
from engine.config import EngineConfig, load_config
from engine.errors import ManifestInvalid, OptionUnknown
from tests.batch_jobs.jobs import job_here, ledger, left, run_here
from tests.batch_jobs.manifests import checked
from tests.batch_jobs.shapes import batch_line, data_url, write_lines
from tests.conftest import PHOTOGRAPHS
from tests.engine.test_adapter import GOOD
from tests.tiny import lora

SHOP = """\
line: {template: turn it into a pencil sketch, seed: 42, options: {num_inference_steps: 2}}
soft: {template: "{instruction}, in soft light", options: {num_inference_steps: 2}}
"""
LINE = "turn it into a pencil sketch"


@pytest.fixture
def shop(tmp_path: Path, photographs: dict[str, bytes]) -> Path:
    """A folder with four photographs and a file of two styles."""
    for name in PHOTOGRAPHS:
        (tmp_path / f"{name}.jpg").write_bytes(photographs[name])
    (tmp_path / "styles.yaml").write_text(SHOP)
    return tmp_path


def config(shop: Path, style: str | None = None) -> JobConfig:
    engine = EngineConfig(resolution=64, determinism="strict", styles=str(shop / "styles.yaml"))
    return JobConfig(engine=engine, style=style)


def row(id: str, **cells: Any) -> dict[str, Any]:
    return {"id": id, "image": "coffee.jpg", **cells}


def planned(shop: Path, rows: list[dict[str, Any]], style: str | None = None) -> dict[str, Any]:
    """id -> (instruction, options, fault) as a job plans them."""
    path = write_lines(shop / "m.jsonl", rows)
    plan = job_here(path, shop / "out", config(shop, style)).plan.rows.to_pylist()
    return {r["id"]: (r["instruction"], json.loads(r["options"]), r["fault"]) for r in plan}


def test_the_order_is_the_jobs_style_then_the_rows_style_then_the_row(shop: Path) -> None:
    rows = [
        row("of the job"),
        row("its own", style="soft", instruction="add fog"),
        row("its own seed", seed=7),
        row("its own steps", num_inference_steps=3),
    ]
    of_line = {"style": "line", "seed": 42, "num_inference_steps": 2}
    assert planned(shop, rows, "line") == {
        "of the job": (LINE, of_line, None),
        "its own": ("add fog, in soft light", {"style": "soft", "num_inference_steps": 2}, None),
        "its own seed": (LINE, of_line | {"seed": 7}, None),
        "its own steps": (LINE, of_line | {"num_inference_steps": 3}, None),
    }


def test_what_a_job_says_beside_its_style_outranks_that_and_not_a_rows(shop: Path) -> None:
    path = write_lines(shop / "m.jsonl", [row("of the job"), row("its own", style="line")])
    told = config(shop, "line").model_dump(exclude={"engine": {"options"}, "same_seed": True})
    told["engine"]["options"] = {"num_inference_steps": 5}
    job = load_config(None, JobConfig, **told, same_seed=True)
    rows = {
        r["id"]: json.loads(r["options"])
        for r in job_here(path, shop / "out", job).plan.rows.to_pylist()
    }
    assert rows["of the job"] == {"style": "line"}
    assert rows["its own"] == {"style": "line", "seed": 42, "num_inference_steps": 2}


def test_what_is_wrong_with_a_rows_style_is_its_own_fault(shop: Path) -> None:
    rows = [
        row("good", style="line"),
        row("unknown", style="lin"),
        row("both", style="line", instruction="add fog"),
        row("neither", style="soft"),
        row("number", style=5),
        row("plain", instruction="add fog"),
    ]
    faults = {id: fault for id, (_, _, fault) in planned(shop, rows).items() if fault}
    says = {
        "unknown": ("option_unknown", 'unknown style "lin". Did you mean "line"?'),
        "both": ("option_invalid", "style line is the whole instruction"),
        "neither": ("instruction_empty", "style soft needs an instruction"),
        "number": ("option_invalid", "style: must be a valid string; got 5"),
    }
    assert faults.keys() == says.keys()
    for id, (code, message) in says.items():
        assert faults[id]["code"] == code and message in faults[id]["message"]
    check = checked(str(shop / "m.jsonl"), engine=config(shop).engine)
    assert len(check.problems) == 3  # by column and code: style, style, instruction
    assert "column style: 1 row, option_unknown\n  unknown: " in "".join(check.problems)


def test_a_job_with_an_unknown_style_does_not_begin(shop: Path) -> None:
    path = write_lines(shop / "m.jsonl", [row("a")])
    with pytest.raises(OptionUnknown, match='unknown style "lime"'):
        job_here(path, shop / "out", config(shop, "lime"))


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("style", ["of the job", "of the rows", "none"])
def test_a_manifest_needs_no_instruction_where_a_style_is_one(
    shop: Path, ending: str, style: str
) -> None:
    rows = [row(name) | ({"style": "line"} if style == "of the rows" else {}) for name in "ab"]
    path = shop / f"m.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ending == "jsonl":
        write_lines(path, rows)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    if style == "none":
        with pytest.raises(ManifestInvalid, match='has no column "instruction"'):
            read_manifest(str(path))
        return
    default = "line" if style == "of the job" else None
    job = job_here(str(path), shop / "out", config(shop, default))
    assert job.plan.rows["instruction"].to_pylist() == [LINE] * 2
    assert job.plan.rows["fault"].null_count == 2


def test_openais_batch_names_a_style_as_the_api_does(
    shop: Path, photographs: dict[str, bytes]
) -> None:
    line = batch_line("a", data_url(photographs["coffee"]), prompt="", style="line", n=1)
    path = write_lines(shop / "m.jsonl", [line])
    (planned_row,) = job_here(path, shop / "out", config(shop)).plan.rows.to_pylist()
    assert (planned_row["instruction"], planned_row["fault"]) == (LINE, None)
    assert json.loads(planned_row["options"])["num_images"] == 1  # outranks the style's


def test_a_changed_style_redoes_exactly_its_rows(shop: Path) -> None:
    rows = [row(f"line-{i}", style="line") for i in range(3)]
    rows += [row(f"soft-{i}", style="soft", instruction="add fog") for i in range(3)]
    rows += [row(f"plain-{i}", instruction="add fog", num_inference_steps=2) for i in range(3)]
    rows.append(row("line-own", style="line", num_inference_steps=3))
    path, out = write_lines(shop / "m.jsonl", rows), shop / "out"
    assert run_here(path, out, config(shop)) == 0
    before = ledger(out)
    assert (before["line-0"]["seed"], before["line-0"]["style"]) == (42, "line")
    assert before["line-0"]["instruction"] == LINE and before["plain-0"]["style"] is None
    assert not len(left(job_here(path, out, config(shop))).todo)

    (shop / "styles.yaml").write_text(
        SHOP.replace("num_inference_steps: 2", "num_inference_steps: 3", 1)
    )
    job = job_here(path, out, config(shop))
    assert sorted(left(job).todo["id"].to_pylist()) == ["line-0", "line-1", "line-2"]
    assert job.run() == 0
    after = ledger(out)
    changed = {id for id in after if after[id]["finished_at"] != before[id]["finished_at"]}
    assert changed == {"line-0", "line-1", "line-2"}
    assert after["line-0"]["num_inference_steps"] == 3


def write_lora(file: Path, factor: float) -> None:
    lora.save(file, {name: factor * half for name, half in GOOD.items()})


def test_another_lora_redoes_exactly_the_rows_of_its_style(shop: Path) -> None:
    """The file's bytes count, not where it lies."""
    text = "{}: {{model: pocket, lora: {}, options: {{num_inference_steps: 2}}}}\n"
    styles = text.format("warm", "warm.safetensors") + text.format("cold", "cold.safetensors")
    write_lora(shop / "warm.safetensors", 0.1)
    write_lora(shop / "cold.safetensors", 0.2)
    (shop / "styles.yaml").write_text(styles)
    rows = [row(name, style=name, instruction="add fog", seed=1) for name in ("warm", "cold")]
    rows.append(row("plain", instruction="add fog", num_inference_steps=2, seed=1))
    path, out = write_lines(shop / "m.jsonl", rows), shop / "out"

    def job() -> Job:
        return job_here(path, out, config(shop), config(shop).engine.find_model())

    assert job().run() == 0
    entries = ledger(out)
    assert {id: entries[id]["lora_scale"] for id in entries} == {
        "warm": 1.0,
        "cold": 1.0,
        "plain": None,
    }
    made = {entries[id]["outputs"][0]["sha256"] for id in entries}
    assert len(made) == 3

    (shop / "warm.safetensors").rename(shop / "moved.safetensors")
    (shop / "styles.yaml").write_text(styles.replace("warm.safetensors", "moved.safetensors"))
    assert not len(left(job()).todo)
    write_lora(shop / "moved.safetensors", 0.3)
    assert left(job()).todo["id"].to_pylist() == ["warm"]
