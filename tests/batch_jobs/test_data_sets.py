"""Public edit data sets are read by the names of their columns, and written back as triplets."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from batch_jobs.export.file import export_ledger
from batch_jobs.manifest.carried import MAX_CHARACTERS, carried_values
from batch_jobs.manifest.plan import open_manifest
from batch_jobs.manifest.reading import Reading
from batch_jobs.stopping import Exit
from engine.errors import OutputUnusable
from storage.storage import Storage
from tests.batch_jobs.data_sets import NAMES, SAID, rows, write
from tests.batch_jobs.jobs import ledger, run_here
from tests.batch_jobs.shapes import planned, write_lines

ULTRA_EDIT = (
    *("idx", "source_image", "edited_image", "edit_prompt", "mask_image", "edit_object"),
    *("source_caption", "target_caption", "clip_sim_source", "clip_sim_target"),
    *("clip_sim_dir", "clip_sim_image", "dinov2_sim", "ssim"),
)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_of_a_public_data_set_is_read_edited_and_written_back(
    tmp_path: Path, photographs: dict[str, bytes], name: str
) -> None:
    photo, other = photographs["coffee"], photographs["rocket"]
    file = write(tmp_path, name, photo, other)
    manifest = open_manifest(file)
    (row,) = planned(manifest.plan)
    assert (row.instruction, row.fault, row.mask, row.references) == (SAID, None, None, ())
    assert run_here(file, tmp_path / "out") == Exit.OK
    (entry,) = ledger(tmp_path / "out").values()
    assert entry["source_sha256"] == hashlib.sha256(photo).hexdigest()

    given = rows(photo, other)[name][1]
    known = set(manifest.files[file].names)
    told = {n: v for n, v in given.items() if n not in known and not isinstance(v, dict | None)}
    assert carried_values(entry["carried"]) == told

    done = export_ledger(Storage(str(tmp_path / "out")), "triplets")
    table = pq.read_table(done.dest)
    (triplet,) = table.to_pylist()
    assert tuple(table.column_names[: len(ULTRA_EDIT)]) == ULTRA_EDIT
    assert (triplet["idx"], triplet["edit_prompt"]) == (entry["id"], SAID)
    assert triplet["source_image"]["bytes"] == photo
    edited = Path(entry["outputs"][0]["uri"]).read_bytes()
    assert triplet["edited_image"]["bytes"] == edited
    has_captions = "a street" in given.values()
    assert (triplet["source_caption"] == "a street") == has_captions
    assert (triplet["target_caption"] == "a street at night") == has_captions

    (again,) = planned(open_manifest(done.dest).plan)  # UltraEdit's columns are read by name too
    assert (again.instruction, again.image_sha256) == (SAID, entry["source_sha256"])


def test_what_was_measured_of_a_row_survives_the_way(
    tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    file = write(tmp_path, "UltraEdit", photographs["coffee"], photographs["rocket"])
    run_here(file, tmp_path / "out")
    dest = export_ledger(Storage(str(tmp_path / "out")), "triplets").dest
    (triplet,) = pq.read_table(dest).to_pylist()
    assert (triplet["clip_sim_dir"], triplet["ssim"], triplet["dinov2_sim"]) == (0.25, 0.5, None)
    assert (triplet["edit_object"], triplet["mask_image"]) == ("sky", None)


def test_columns_that_mean_nothing_to_an_edit_are_named_once(tmp_path: Path) -> None:
    cells: dict[str, Any] = {"image": "a.jpg", "instruction": "add fog", "note": "x", "empty": ""}
    cells |= {"scores": [1, {"a": None}], "long": "x" * (MAX_CHARACTERS + 1)}
    file = write_lines(tmp_path / "m.jsonl", [cells, cells])
    manifest = open_manifest(file)
    assert manifest.notes == [
        "columns that mean nothing to an edit, in the ledger's `carried`: note, scores",
        "columns of files or long texts, left out: long",
    ]
    for one in manifest.plan["carried"].to_pylist():
        assert carried_values(one) == {"note": "x", "scores": [1, {"a": None}]}
    left = open_manifest(file, Reading(carry=False))
    assert left.plan["carried"].null_count == 2
    assert left.notes[0].startswith("columns that mean nothing to an edit, left out: note")


def test_a_source_that_is_another_one_now_is_not_written_as_a_triplet(
    tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    (tmp_path / "a.jpg").write_bytes(photographs["coffee"])
    file = write_lines(tmp_path / "m.jsonl", [{"image": "a.jpg", "instruction": "add fog"}])
    run_here(file, tmp_path / "out")
    (tmp_path / "a.jpg").write_bytes(photographs["rocket"])
    with pytest.raises(OutputUnusable, match=r"the source of row .* is another one now"):
        export_ledger(Storage(str(tmp_path / "out")), "triplets")
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(OutputUnusable, match=r"a picture of row .* cannot be read"):
        export_ledger(Storage(str(tmp_path / "out")), "triplets")
