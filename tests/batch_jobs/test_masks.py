"""A row's mask is read as its image is, however a manifest gives it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs.manifest import parquet_groups as parquet
from batch_jobs.manifest.plan import read_manifest
from batch_jobs.records import from_table
from batch_jobs.stages.context import BlockContext
from batch_jobs.stages.crash_journal import Journal
from batch_jobs.stages.decode import DecodedRow, decode_block
from engine.errors import ManifestInvalid
from engine.options import EditOptions
from engine.sources import Source, prepare
from engine.spec import ModelSpec
from storage.storage import Storage
from tests.batch_jobs.manifests import GIVEN, decoded, write_masked
from tests.batch_jobs.shapes import embedded_masks, write_lines


@pytest.mark.parametrize("given", GIVEN)
def test_a_mask_is_the_same_however_a_manifest_gives_it(
    tmp_path: Path, given: str, masked_rows: list[dict[str, Any]], pocket: ModelSpec
) -> None:
    masked, free = decoded(write_masked(tmp_path, given, masked_rows), pocket)
    options = pocket.resolve(EditOptions(num_inference_steps=2, seed=5), seed=0)
    files = Source(masked_rows[0]["image"], masked_rows[0]["mask"])
    wanted = prepare("a", files, "add fog", options, pocket)
    assert masked.prepared is not None and free.prepared is not None
    found = masked.prepared.request.mask
    assert found is not None and wanted.request.mask is not None
    assert np.array_equal(found, wanted.request.mask)
    assert (found.min(), found.max()) == (0, 255)
    assert free.prepared.request.mask is None
    named = {"path": "a-mask", "uri": (tmp_path / "a-mask").as_uri()}
    assert masked.entry.mask == named.get(given.partition(".")[0])
    assert free.entry.mask is None


@pytest.mark.parametrize("given", GIVEN)
def test_a_manifest_is_planned_without_its_masks(
    tmp_path: Path, given: str, masked_rows: list[dict[str, Any]]
) -> None:
    plan = read_manifest(write_masked(tmp_path, given, masked_rows))
    is_named = given.partition(".")[0] in ("path", "uri")
    digest = None if is_named else hashlib.sha256(masked_rows[0]["mask"]).hexdigest()
    assert plan["mask_sha256"].to_pylist() == [digest, None]
    assert plan["mask"].null_count == (1 if is_named else 2)
    assert embedded_masks(plan) == ({} if is_named else {0: masked_rows[0]["mask"]})


def test_a_mask_may_be_held_beside_an_image_that_is_named_and_the_other_way_round(
    tmp_path: Path,
    masked_rows: list[dict[str, Any]],
    photographs: dict[str, bytes],
    pocket: ModelSpec,
) -> None:
    (tmp_path / "coffee.jpg").write_bytes(photographs["coffee"])
    (tmp_path / "mask.png").write_bytes(masked_rows[0]["mask"])
    held = pa.table(
        {"image": ["coffee.jpg"], "mask": [masked_rows[0]["mask"]], "instruction": ["add fog"]}
    )
    named = pa.table(
        {"image": [photographs["coffee"]], "mask": ["mask.png"], "instruction": ["add fog"]}
    )
    for name, table in (("held.parquet", held), ("named.parquet", named)):
        pq.write_table(table, tmp_path / name)
        (row,) = decoded(str(tmp_path / name), pocket)
        assert row.prepared is not None and row.prepared.request.mask is not None
        assert (row.entry.source, row.entry.mask) == (
            ("coffee.jpg", None) if name == "held.parquet" else (None, "mask.png")
        )
        assert (row.entry.place is None) == (name == "held.parquet")


def test_a_mask_of_a_dataflow_line_is_read_and_not_ignored(
    tmp_path: Path,
    masked_rows: list[dict[str, Any]],
    photographs: dict[str, bytes],
    pocket: ModelSpec,
) -> None:
    (tmp_path / "coffee.jpg").write_bytes(photographs["coffee"])
    (tmp_path / "mask.png").write_bytes(masked_rows[0]["mask"])
    said = [{"role": "user", "content": "add fog"}]
    lines = [{"images": ["coffee.jpg"], "conversations": said, "mask": "mask.png"}]
    (row,) = decoded(write_lines(tmp_path / "m.jsonl", lines), pocket)
    assert row.prepared is not None and row.prepared.request.mask is not None


def test_a_block_that_is_decoded_apart_keeps_its_masks(
    tmp_path: Path, masked_rows: list[dict[str, Any]], pocket: ModelSpec
) -> None:
    plan = read_manifest(write_masked(tmp_path, "bytes.parquet", masked_rows))
    journal = Journal(Storage(str(tmp_path / "out")), "run")
    journal.block(["decode", *plan["id"].to_pylist()]).open()  # a worker died on it
    context = BlockContext(pocket, job_seed=0, base=str(tmp_path), image_root=None)
    masked, free = from_table(DecodedRow, decode_block(plan, context, journal))
    assert masked.prepared is not None and masked.prepared.request.mask is not None
    assert free.prepared is not None and free.prepared.request.mask is None


def test_images_and_masks_of_a_row_group_are_counted_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "MAX_GROUP_BYTES", 2**20)
    data = [bytes(2**19)]
    table = pa.table({"image": data, "instruction": ["add fog"], "mask": data})
    pq.write_table(table.drop_columns("mask"), tmp_path / "m.parquet", use_dictionary=False)
    assert len(read_manifest(str(tmp_path / "m.parquet"))) == 1
    pq.write_table(table, tmp_path / "m.parquet", use_dictionary=False)
    with pytest.raises(ManifestInvalid, match="holds 1 MiB of images and masks in 1 row,"):
        read_manifest(str(tmp_path / "m.parquet"))


def test_repeated_masks_beside_named_images_are_not_read_all_at_once(tmp_path: Path) -> None:
    count = 1000
    table = pa.table(
        {"image": ["x.jpg"] * count, "mask": [bytes(99)] * count, "instruction": ["fog"] * count}
    )
    pq.write_table(table, tmp_path / "m.parquet")
    chunks = read_manifest(str(tmp_path / "m.parquet"))["mask_sha256"].chunks
    assert max(map(len, chunks)) == parquet.REPEATED_ROWS
    pq.write_table(table.drop_columns("mask"), tmp_path / "m.parquet")
    chunks = read_manifest(str(tmp_path / "m.parquet"))["image"].chunks
    assert max(map(len, chunks)) == count
