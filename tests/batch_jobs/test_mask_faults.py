"""What is wrong with a mask is its row's own fault, told from what is wrong with an image; a check
finds it as a job does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from batch_jobs.manifest.plan import read_manifest
from batch_jobs.records import from_table
from batch_jobs.stages.context import BlockContext
from batch_jobs.stages.decode import DecodedRow, decode_rows
from engine.errors import ManifestInvalid
from engine.images import MAX_BYTES
from engine.spec import ModelSpec
from tests.batch_jobs.manifests import FOG, checked, decoded, mask_png, write_masked
from tests.batch_jobs.shapes import (
    data_url,
    embedded,
    embedded_masks,
    fault,
    planned,
    write_lines,
)
from tests.engine.test_masks import bomb, clear_palette, deep, frames, half_clear, saved, with_alpha

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
    lines = [{"id": name, "image": image, "mask": mask, **FOG} for name, mask in masks.items()]
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
    (tmp_path / "mask.png").write_bytes(mask_png((600, 400), (100, 80, 300, 200)))
    with (root / "large.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    row = {"image": "coffee.jpg", **FOG}
    lines = [{"id": f"{i}", **row, "mask": mask} for i, (mask, _, _) in enumerate(REFUSED)]
    lines += [{"id": "free", **row}, {"id": "null", **row, "mask": None}]
    lines += [{"id": "empty", **row, "mask": ""}]
    found = [line.entry for line in decoded(write_lines(root / "m.jsonl", lines), pocket, root)]
    assert [entry.error_code for entry in found[len(REFUSED) :]] == [None] * 3
    for entry, (mask, code, says) in zip(found, REFUSED, strict=False):
        assert (entry.error_code, entry.error_param) == (code, "mask"), mask
        assert says in (entry.error_message or ""), mask


def test_a_csv_holds_no_masks(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(f'image,mask,instruction\nx.jpg,"{data_url(b"x")}",add fog\n')
    with pytest.raises(ManifestInvalid, match="line 2: a CSV or sheet holds no images"):
        read_manifest(str(tmp_path / "m.csv"))


def test_a_mask_that_is_not_the_planned_one_is_not_taken(
    tmp_path: Path, masked_rows: list[dict[str, Any]], pocket: ModelSpec
) -> None:
    path = write_masked(tmp_path, "bytes.parquet", masked_rows)
    plan = read_manifest(path)
    write_masked(
        tmp_path, "bytes.parquet", [masked_rows[0] | {"mask": mask_png((600, 400), (0, 0, 9, 9))}]
    )
    context = BlockContext(pocket, job_seed=0, base=str(tmp_path), image_root=None)
    masked, gone = (row.entry for row in from_table(DecodedRow, decode_rows(plan, context)))
    assert (masked.error_code, masked.error_param) == ("image_not_found", "mask")
    assert "the mask of this row is no longer in its place" in (masked.error_message or "")
    assert (gone.error_code, gone.error_param) == ("image_not_found", "image")


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
    tmp_path: Path, given: str, masked_rows: list[dict[str, Any]]
) -> None:
    many = [masked_rows[1] | {"id": f"{i}"} for i in range(30)]
    many[17]["mask"] = WRONG["rgb"][0]
    (problem,) = checked(write_masked(tmp_path, given, many), images=2).problems
    assert "column mask: 1 row, mask_invalid\n  17: the mask has no alpha channel" in problem


def test_a_mask_that_is_not_there_is_found_before_the_job(manifest: Callable[..., str]) -> None:
    rows = [{"id": f"{i}", "image": "coffee.jpg", "mask": None, **FOG} for i in range(9)]
    rows[4]["mask"], rows[6]["mask"] = "none.png", "data:image/png;base64,!"
    url, gone = sorted(checked(manifest(rows), images=2).problems)[::-1]
    assert "column mask: 1 row, image_unreadable\n  6: the data URL is not" in url
    assert "column mask: 1 row, image_not_found\n  4: mask: none.png: No such" in gone
