"""A manifest is checked before its job: every row, a sample of images, by the job's own rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs.records import from_table
from batch_jobs.stages.decode import DecodedRow, decode_rows
from engine.errors import ManifestInvalid
from engine.options import EditOptions
from tests.batch_jobs.manifests import GOOD, checked, rows
from tests.batch_jobs.shapes import write_lines
from tests.cli.test_cli import rayedit

Write = Callable[..., str]


def test_every_kind_of_fault_is_named_with_file_column_and_ten_rows(
    manifest: Write, tmp_path: Path
) -> None:
    (tmp_path / "text.jpg").write_text("not an image")
    bad = rows(200)
    for i in range(100, 140):
        bad[i] = bad[i] | {"text_guidance": 25.0 + i}
    bad[7]["size"], bad[8]["scheduler"], bad[9]["image"] = "100x64", "eular", "text.jpeg"
    bad[9]["image"], bad[10]["image"] = "text.jpg", "s5://bucket/x.png"
    bad[11]["edit_prompt"], bad[12]["image"] = "", "../../etc/x.tif"
    bad[13]["image"] = None
    for row in bad:
        row["edit_prompt"] = row.pop("instruction") if "edit_prompt" not in row else ""
        row.pop("instruction", None)
    path = manifest(bad)
    done = rayedit("validate", path, "--images", "200")
    assert (done.returncode, done.stdout) == (2, "")
    text = done.stderr
    assert f"{path}, column text_guidance: 40 rows, option_invalid\n  row-100: " in text
    assert "must be less than or equal to 20; got 125" in text and "  and 30 more\n" in text
    assert "row-109" in text and "row-110" not in text
    assert f"{path}, column edit_prompt: 1 row, instruction_empty\n  row-11: " in text
    for column, id, says in (
        ("size", "row-7", "sides are multiples of 16"),
        ("scheduler", "row-8", "must be 'ddim'"),
        ("image", "row-9", "not a JPEG, PNG or WebP"),
        ("image", "row-10", "s5:// is not fetched"),
        ("image", "row-12", "No such file"),
        ("image", "row-13", "image is empty"),
    ):
        assert f"column {column}: 1 row" in text and f"  {id}: " in text and says in text
    assert text.endswith("200 rows in 1 file, 156 images opened: 8 kinds of fault\n")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("m.parquet", "PAR1", "m.parquet cannot be read"),
        ("m.xls", "PK", "a manifest ends in .parquet, .xlsx, .jsonl"),
        ("m.csv", "image,instruction,guidance_scal\nx,y,5\n", 'mean "guidance_scale"'),
        ("m.csv", "picture,instruction\nx,y\n", 'has no column "image"'),
        ("none.csv", None, "no manifest at"),
    ],
)
def test_a_manifest_that_no_job_would_begin_is_refused(
    tmp_path: Path, name: str, text: str | None, says: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ManifestInvalid, match=says):
        checked(str(tmp_path / name))


def test_repeated_ids_and_other_faults_are_told_together(tmp_path: Path) -> None:
    line = '{"id": 1, "image": "x", "instruction": " "}\n'
    (tmp_path / "m.jsonl").write_text(line * 2)
    done = rayedit("validate", tmp_path / "m.jsonl")
    assert (done.returncode, done.stdout) == (2, "")
    ids, instruction, *_ = done.stderr.splitlines()
    assert ids.endswith("m.jsonl: ids must be unique; these are not: 1")
    assert instruction.endswith("m.jsonl, column instruction: 2 rows, instruction_empty")


def test_one_image_of_each_kind_is_opened_however_rare_it_is(
    manifest: Write, tmp_path: Path
) -> None:
    (tmp_path / "a.heic").write_bytes(b"heic")
    many = rows(1000)
    many[501]["image"], many[502]["image"] = "a.heic", "http://host/x.jpg"
    many[503]["image"] = "sub/../../x.jpg"
    check = checked(manifest(many), images=5, image_root=str(tmp_path))
    found = "\n".join(check.problems)
    assert all(f"row-{i}: " in found for i in (501, 502, 503))
    assert check.images_opened <= 5 + 4
    assert checked(manifest(many), images=0).problems == []


def test_images_outside_the_root_are_refused(manifest: Write, tmp_path: Path) -> None:
    path = manifest(rows(3) + rows(1, id="out", image="/etc/hostname"))
    (problem,) = checked(path, image_root=str(tmp_path)).problems
    assert "image_source_refused" in problem and "out: /etc/hostname is outside" in problem


def test_what_is_checked_is_what_the_job_does(manifest: Write) -> None:
    """Each option out of its bounds: the same code in the check as in a job's row."""
    bad = {"seed": -1, "num_images": 11, "size": "9x9", "resize": "tile", "scheduler": "x"}
    bad |= {"num_inference_steps": 0, "guidance_scale": 21.0, "image_guidance_scale": -1.0}
    many = [{"id": name, **GOOD, name: value} for name, value in bad.items()]
    many.append({"id": "both", **GOOD, "restore_size": True, "resize": "crop"})
    check = checked(manifest(many), images=0)
    decoded = decode_rows(check.plan, check.context())
    entries = [row.entry for row in from_table(DecodedRow, decoded)]
    found = "\n".join(check.problems)
    assert {entry.id for entry in entries if entry.status == "error"} == {*bad, "both"}
    for entry in entries:
        assert f"  {entry.id}: {entry.error_message}" in found
    assert set(bad) <= set(EditOptions.model_fields)


def test_one_bad_row_among_many_is_found(tmp_path: Path) -> None:
    count = 20_000
    table = pa.table(
        {
            "id": [str(i) for i in range(count)],
            "image": ["x.jpg"] * count,
            "instruction": [f"add fog {i}" for i in range(count)],
            "seed": pa.array(np.arange(count) - 1),
        }
    )
    pq.write_table(table, tmp_path / "m.parquet")
    (problem,) = checked(str(tmp_path / "m.parquet"), images=0).problems
    assert "column seed: 1 row, option_invalid\n  0: seed: must be greater" in problem


@pytest.mark.parametrize("nothing", [None, "", [], {}, {"bytes": None}, {"bytes": "", "path": ""}])
def test_a_row_without_an_image_is_told_what_to_give(tmp_path: Path, nothing: object) -> None:
    """Zero bytes were never what was wrong with it."""
    lines = [{"id": "a", "image": nothing, "instruction": "add fog"}]
    check = checked(write_lines(tmp_path / "m.jsonl", lines))
    (row,) = from_table(DecodedRow, decode_rows(check.plan, check.context()))
    says = "image is empty: give a path, a URI or a data URL"
    assert (row.entry.error_code, row.entry.error_message) == ("image_missing", says)
    assert f"  a: {says}" in check.problems[0]
