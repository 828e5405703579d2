"""What the first stage makes of planned rows, wherever their images are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs.ledger.entry import Entry
from batch_jobs.manifest.place import Place
from batch_jobs.manifest.plan import read_manifest
from batch_jobs.records import from_table
from batch_jobs.stages.context import BlockContext
from batch_jobs.stages.decode import DecodedRow, decode_rows
from engine.spec import ModelSpec
from tests.batch_jobs.fault_proxy import FaultProxy
from tests.batch_jobs.shapes import data_url, write_lines
from tests.storage.test_retrying import web

__all__ = ["web"]


def rows_of(plan: pa.Table, spec: ModelSpec, base: Path) -> list[DecodedRow]:
    context = BlockContext(spec, job_seed=0, base=str(base), image_root=None)
    return from_table(DecodedRow, decode_rows(plan, context))


def decoded(plan: pa.Table, spec: ModelSpec, base: Path) -> list[Entry]:
    """The ledger rows in the making."""
    return [row.entry for row in rows_of(plan, spec, base)]


def codes(entries: list[Entry]) -> list[str | None]:
    return [entry.error_code for entry in entries]


@pytest.fixture
def table(photographs: dict[str, bytes]) -> pa.Table:
    return pa.table({"image": list(photographs.values()), "instruction": ["add fog"] * 4})


def test_storage_is_asked_again_for_the_images_of_a_manifest(
    web: FaultProxy, tmp_path: Path, photographs: dict[str, bytes], pocket: ModelSpec
) -> None:
    lines = [{"image": data_url(photographs["coffee"]), "instruction": "add fog"}]
    plan = read_manifest(write_lines(tmp_path / "m.jsonl", lines))
    plan = plan.set_column(0, "file", pa.array([f"{web.url}/m.jsonl"]))
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
    assert "m.parquet" in entries[0].error_message


def test_an_image_that_is_not_the_planned_one_is_not_edited(
    tmp_path: Path, table: pa.Table, pocket: ModelSpec
) -> None:
    path = str(tmp_path / "m.parquet")
    pq.write_table(table, path)
    plan = read_manifest(path)
    pq.write_table(table.take([0, 2, 1]), path)
    entries = decoded(plan, pocket, tmp_path)
    assert codes(entries) == [None] + ["image_not_found"] * 3
    assert "m.parquet has changed since the job read it" in entries[1].error_message


def test_images_may_be_bytes_or_structs_and_columns_may_have_other_names(
    manifest: Callable[..., str], tmp_path: Path, photographs: dict[str, bytes], pocket: ModelSpec
) -> None:
    options = {"num_inference_steps": 2, "seed": 5}
    path = {"id": "a", "image": "coffee.jpg", "instruction": "add fog", **options}
    data = {"id": "a", "input_image": photographs["coffee"], "edit_prompt": "add fog", **options}
    struct = {"id": "a", "image": {"bytes": photographs["coffee"], "path": "x"}, **options}
    struct["prompt"] = "add fog"
    found = []
    for name, row in (("path", path), ("data", data), ("struct", struct)):
        plan = read_manifest(manifest([row], f"{name}.parquet"))
        found += rows_of(plan, pocket, tmp_path)
    sha256 = hashlib.sha256(photographs["coffee"]).hexdigest()
    assert {row.entry.source_sha256 for row in found} == {sha256}
    requests = [row.prepared.request for row in found if row.prepared is not None]
    assert len(requests) == 3
    for request in requests:
        assert (request.instruction, request.options) == ("add fog", requests[0].options)
        assert np.array_equal(request.pixels, requests[0].pixels)
        assert request.digest == requests[0].digest != ""
    assert [row.entry.source for row in found] == ["coffee.jpg", None, None]
    places = [row.entry.place for row in found]
    assert places == [
        None,
        Place(f"{tmp_path}/data.parquet", 0, 0),
        Place(f"{tmp_path}/struct.parquet", 0, 0),
    ]
