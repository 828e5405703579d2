"""A row's mask is read as its image is, however it is given; its faults are the row's own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from batch_jobs.manifest import parquet
from batch_jobs.manifest.plan import read_manifest
from batch_jobs.records import from_table
from batch_jobs.stages.context import BlockContext
from batch_jobs.stages.crash_journal import Journal
from batch_jobs.stages.decode import DecodedRow, decode_block, decode_rows
from engine.errors import ManifestInvalid
from engine.images import MAX_BYTES
from engine.options import EditOptions
from engine.sources import Source, prepare
from engine.spec import ModelSpec
from storage.storage import Storage
from tests.batch_jobs.manifests import GIVEN, checked, mask_png, write_masked
from tests.batch_jobs.shapes import (
    data_url,
    embedded,
    embedded_masks,
    fault,
    planned,
    write_lines,
)
from tests.engine.test_masks import bomb, clear_palette, deep, frames, half_clear, saved, with_alpha

COFFEE_PX = (600, 400)
BOX = (100, 80, 300, 200)
STEPS = {"instruction": "add fog", "num_inference_steps": 2, "seed": 5}


def decoded(manifest: str, spec: ModelSpec, root: Path | None = None) -> list[DecodedRow]:
    base = str(Path(manifest).parent)
    context = BlockContext(spec, job_seed=0, base=base, image_root=root and str(root))
    return from_table(DecodedRow, decode_rows(read_manifest(manifest), context))


@pytest.fixture
def two(photographs: dict[str, bytes]) -> list[dict[str, Any]]:
    """A row with a mask and one without."""
    row = {"image": photographs["coffee"], **STEPS}
    return [{"id": "a", **row, "mask": mask_png(COFFEE_PX, BOX)}, {"id": "b", **row}]


@pytest.mark.parametrize("given", GIVEN)
def test_a_mask_is_the_same_however_a_manifest_gives_it(
    tmp_path: Path, given: str, two: list[dict[str, Any]], pocket: ModelSpec
) -> None:
    masked, free = decoded(write_masked(tmp_path, given, two), pocket)
    options = pocket.resolve(EditOptions(num_inference_steps=2, seed=5), seed=0)
    files = Source(two[0]["image"], two[0]["mask"])
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
    tmp_path: Path, given: str, two: list[dict[str, Any]]
) -> None:
    plan = read_manifest(write_masked(tmp_path, given, two))
    is_named = given.partition(".")[0] in ("path", "uri")
    digest = None if is_named else hashlib.sha256(two[0]["mask"]).hexdigest()
    assert plan["mask_sha256"].to_pylist() == [digest, None]
    assert plan["mask"].null_count == (1 if is_named else 2)
    assert embedded_masks(plan) == ({} if is_named else {0: two[0]["mask"]})


def test_a_mask_may_be_held_beside_an_image_that_is_named_and_the_other_way_round(
    tmp_path: Path, two: list[dict[str, Any]], photographs: dict[str, bytes], pocket: ModelSpec
) -> None:
    (tmp_path / "coffee.jpg").write_bytes(photographs["coffee"])
    (tmp_path / "mask.png").write_bytes(two[0]["mask"])
    held = pa.table({"image": ["coffee.jpg"], "mask": [two[0]["mask"]], "instruction": ["add fog"]})
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


WRONG = {
    "empty": (b"", "no image (0 bytes)"),
    "jpeg": (saved(Image.new("RGB", (40, 30)), "JPEG"), "the mask is JPEG and no PNG"),
    "broken": (saved(with_alpha(half_clear()))[:-40], "the mask cannot be read: the PNG ends"),
    "small": (saved(with_alpha(half_clear()[:20])), "the mask is 40x20 px and the image 40x30 px"),
    "rgb": (saved(Image.new("RGB", (40, 30))), "no alpha channel"),
    "opaque": (saved(with_alpha(half_clear() | 255)), "opaque everywhere"),
    "clear": (saved(with_alpha(half_clear() & 0)), "transparent everywhere"),
    "deep": (deep(6, 4), "16 bits a channel"),
    "palette": (clear_palette(), "a palette in place of an alpha channel"),
    "bomb": (bomb(5000), "the mask is 5000x5000 px"),
    "frames": (frames(), "2 frames"),
}


@pytest.mark.parametrize("given", ["path.csv", "bytes.parquet", "data.jsonl"])
def test_what_is_wrong_with_a_mask_is_its_rows_own_fault(
    tmp_path: Path, given: str, pocket: ModelSpec
) -> None:
    image = saved(Image.new("RGB", (40, 30)))
    masks = {name: data for name, (data, _) in WRONG.items()}
    masks["good"] = saved(with_alpha(half_clear()))
    lines = [{"id": name, "image": image, "mask": mask, **STEPS} for name, mask in masks.items()]
    entries = {
        row.entry.id: row.entry for row in decoded(write_masked(tmp_path, given, lines), pocket)
    }
    assert entries.pop("good").status == "ok"
    for name, entry in entries.items():
        assert (entry.error_code, entry.error_param) == ("mask_invalid", "mask"), name
        assert WRONG[name][1] in (entry.error_message or ""), name
        assert "\n" not in (entry.error_message or ""), name


REFUSED: list[tuple[Any, str, str]] = [
    ("none.png", "image_not_found", "mask: none.png: No such file"),
    ("s5://bucket/mask.png", "image_source_refused", "mask: s5:// is not fetched"),
    ("../mask.png", "image_source_refused", "mask.png is outside the image root"),
    ("large.png", "image_too_large", "mask: large.png has more than 26,214,400 bytes"),
    ("nul\0.png", "image_source_refused", "mask: the path holds a NUL character"),
    ("data:image/png;base64,!", "image_unreadable", "the data URL is not valid base64"),
    ("data:image/png,abc", "image_unreadable", "the data URL must be data:image"),
    ("\ud83d.png", "image_not_found", "mask is not valid Unicode"),
    (5, "mask_invalid", "mask must be a path or URI; got 5"),
    ({"bytes": None, "path": "none.png"}, "image_not_found", "mask: none.png: No such file"),
]


def test_a_mask_that_cannot_be_had_is_told_from_an_image_that_cannot(
    tmp_path: Path, photographs: dict[str, bytes], pocket: ModelSpec
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "coffee.jpg").write_bytes(photographs["coffee"])
    (tmp_path / "mask.png").write_bytes(mask_png(COFFEE_PX, BOX))
    with (root / "large.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    row = {"image": "coffee.jpg", **STEPS}
    lines = [{"id": f"{i}", **row, "mask": mask} for i, (mask, _, _) in enumerate(REFUSED)]
    lines += [{"id": "free", **row}, {"id": "null", **row, "mask": None}]
    lines += [{"id": "empty", **row, "mask": ""}]
    found = [line.entry for line in decoded(write_lines(root / "m.jsonl", lines), pocket, root)]
    assert [entry.error_code for entry in found[len(REFUSED) :]] == [None] * 3
    for entry, (mask, code, says) in zip(found, REFUSED, strict=False):
        assert (entry.error_code, entry.error_param) == (code, "mask"), mask
        assert says in (entry.error_message or ""), mask


def test_a_mask_of_a_dataflow_line_is_read_and_not_ignored(
    tmp_path: Path, two: list[dict[str, Any]], photographs: dict[str, bytes], pocket: ModelSpec
) -> None:
    (tmp_path / "coffee.jpg").write_bytes(photographs["coffee"])
    (tmp_path / "mask.png").write_bytes(two[0]["mask"])
    said = [{"role": "user", "content": "add fog"}]
    lines = [{"images": ["coffee.jpg"], "conversations": said, "mask": "mask.png"}]
    (row,) = decoded(write_lines(tmp_path / "m.jsonl", lines), pocket)
    assert row.prepared is not None and row.prepared.request.mask is not None


def test_a_csv_holds_no_masks(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(f'image,mask,instruction\nx.jpg,"{data_url(b"x")}",add fog\n')
    with pytest.raises(ManifestInvalid, match="line 2: a CSV holds no images and no masks"):
        read_manifest(str(tmp_path / "m.csv"))


def test_a_mask_that_is_not_the_planned_one_is_not_taken(
    tmp_path: Path, two: list[dict[str, Any]], pocket: ModelSpec
) -> None:
    path = write_masked(tmp_path, "bytes.parquet", two)
    plan = read_manifest(path)
    write_masked(tmp_path, "bytes.parquet", [two[0] | {"mask": mask_png(COFFEE_PX, (0, 0, 9, 9))}])
    context = BlockContext(pocket, job_seed=0, base=str(tmp_path), image_root=None)
    masked, gone = (row.entry for row in from_table(DecodedRow, decode_rows(plan, context)))
    assert (masked.error_code, masked.error_param) == ("image_not_found", "mask")
    assert "the mask of this row is no longer in its place" in (masked.error_message or "")
    assert (gone.error_code, gone.error_param) == ("image_not_found", "image")


def test_a_block_that_is_decoded_apart_keeps_its_masks(
    tmp_path: Path, two: list[dict[str, Any]], pocket: ModelSpec
) -> None:
    plan = read_manifest(write_masked(tmp_path, "bytes.parquet", two))
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
    with pytest.raises(ManifestInvalid, match="holds 1 MiB of images and masks in 1 rows"):
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


def test_a_broken_image_and_a_broken_mask_of_a_row_are_one_fault_in_parquet(tmp_path: Path) -> None:
    broken = "data:image/png;base64,!"
    rows = {"image": [broken, "x.jpg"], "mask": [broken, broken], "instruction": ["fog"] * 2}
    pq.write_table(pa.table(rows), tmp_path / "m.parquet")
    plan = read_manifest(str(tmp_path / "m.parquet"))
    both, mask = (fault(row) for row in planned(plan))
    assert (both.param, mask.param) == ("image_url", "mask")
    assert embedded(plan) == embedded_masks(plan) == {}


@pytest.mark.parametrize("given", ["path.jsonl", "data.jsonl", "bytes.parquet"])
def test_a_wrong_mask_is_found_before_the_job(
    tmp_path: Path, given: str, two: list[dict[str, Any]]
) -> None:
    many = [two[1] | {"id": f"{i}"} for i in range(30)]
    many[17]["mask"] = WRONG["rgb"][0]
    (problem,) = checked(write_masked(tmp_path, given, many), images=2).problems
    assert "column mask: 1 row, mask_invalid\n  17: the mask has no alpha channel" in problem


def test_a_mask_that_is_not_there_is_found_before_the_job(manifest: Callable[..., str]) -> None:
    rows = [{"id": f"{i}", "image": "coffee.jpg", "mask": None, **STEPS} for i in range(9)]
    rows[4]["mask"], rows[6]["mask"] = "none.png", "data:image/png;base64,!"
    url, gone = sorted(checked(manifest(rows), images=2).problems)[::-1]
    assert "column mask: 1 row, image_unreadable\n  6: the data URL is not" in url
    assert "column mask: 1 row, image_not_found\n  4: mask: none.png: No such" in gone
