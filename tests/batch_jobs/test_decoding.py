"""Images that the manifest holds itself, read again by the task that decodes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs.manifest.plan import read_manifest
from batch_jobs.stages.edit import decode_rows
from engine.registry import ModelSpec
from tests.batch_jobs.fault_proxy import FaultProxy
from tests.batch_jobs.shapes import data_url, write_lines
from tests.batch_jobs.test_retrying import web

__all__ = ["web"]


def decoded(plan: pa.Table, spec: ModelSpec, base: Path) -> list[dict[str, Any]]:
    """The ledger rows in the making."""
    count = len(plan)
    plan = plan.append_column("attempts", pa.repeat(1, count))
    plan = plan.append_column("fingerprint", pa.repeat("", count))
    block = decode_rows(plan, spec, 0, str(base), None)
    return [json.loads(entry) for entry in block["entry"].to_pylist()]


def codes(entries: list[dict[str, Any]]) -> list[str | None]:
    return [entry.get("error_code") for entry in entries]


@pytest.fixture
def table(photographs: dict[str, bytes]) -> pa.Table:
    return pa.table({"image": list(photographs.values()), "instruction": ["add fog"] * 4})


def test_storage_is_asked_again_for_the_images_of_a_manifest(
    web: FaultProxy, tmp_path: Path, photographs: dict[str, bytes], pocket: ModelSpec
) -> None:
    lines = [{"image": data_url(photographs["coffee"]), "instruction": "add fog"}]
    plan = read_manifest(write_lines(tmp_path / "m.jsonl", lines))
    plan = plan.set_column(1, "file", pa.array([f"{web.url}/m.jsonl"]))
    web.outage = 2
    assert codes(decoded(plan, pocket, tmp_path)) == [None]
    assert web.faults == 2


def test_a_manifest_that_cannot_be_read_again_is_not_a_missing_image(
    tmp_path: Path, table: pa.Table, photographs: dict[str, bytes], pocket: ModelSpec
) -> None:
    pq.write_table(table, tmp_path / "m.parquet")
    (tmp_path / "coffee.jpg").write_bytes(photographs["coffee"])
    lines = [{"image": "coffee.jpg", "instruction": "add fog"}, {"instruction": "add fog"}]
    write_lines(tmp_path / "n.jsonl", lines)
    plan = pa.concat_tables(
        [read_manifest(str(tmp_path / name)) for name in ("m.parquet", "n.jsonl")]
    )
    (tmp_path / "m.parquet").unlink()
    entries = decoded(plan, pocket, tmp_path)
    assert codes(entries) == ["internal_error"] * 4 + [None, "image_missing"]
    assert "m.parquet" in entries[0]["error_message"]


def test_an_image_that_is_not_the_planned_one_is_not_edited(
    tmp_path: Path, table: pa.Table, pocket: ModelSpec
) -> None:
    path = str(tmp_path / "m.parquet")
    pq.write_table(table, path)
    plan = read_manifest(path)
    pq.write_table(table.take([0, 2, 1]), path)
    entries = decoded(plan, pocket, tmp_path)
    assert codes(entries) == [None] + ["image_not_found"] * 3
    assert "m.parquet has changed since the job read it" in entries[1]["error_message"]
