"""A row of several images: however a manifest gives them, the same edit, in the same order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs.ledger.entry import from_ledger, to_ledger
from batch_jobs.manifest import parquet_pictures
from batch_jobs.manifest.plan import has_relative, open_manifest, read_manifest
from batch_jobs.records import from_table
from batch_jobs.stages.context import BlockContext
from batch_jobs.stages.decode import DecodedRow, decode_rows
from batch_jobs.validation.check import ManifestCheck
from engine.catalogue import FLUX2_KLEIN
from engine.sources import Source, prepare
from engine.spec import ModelSpec
from storage.location import located
from tests.batch_jobs.jobs import CONFIG, job_here
from tests.batch_jobs.manifests import FOG, GIVEN, checked, decoded, write_masked
from tests.batch_jobs.shapes import data_url, write_lines
from tests.conftest import photograph, png

KLEIN = replace(FLUX2_KLEIN, resolution=64)
COFFEE, CHELSEA, ROCKET = (
    png(photograph(name)[:200, :300]) for name in ("coffee", "chelsea", "rocket")
)
IMAGES = [COFFEE, CHELSEA, ROCKET]
LISTS = tuple(given for given in GIVEN if not given.endswith(".csv"))  # a CSV's cell is one text
ROWS = [{"id": "a", "image": IMAGES, **FOG}, {"id": "b", "image": [COFFEE], **FOG}]


def check_pictures(row: DecodedRow, files: list[bytes]) -> None:
    assert row.prepared is not None, row.entry.error_message
    options = row.entry.options
    assert options is not None
    source = Source(files[0], references=tuple(files[1:]))
    wanted = prepare("a", source, "add fog", options, KLEIN).request
    request = row.prepared.request
    pairs = zip(
        [request.pixels, *request.references], [wanted.pixels, *wanted.references], strict=True
    )
    assert all(np.array_equal(found, expected) for found, expected in pairs)


@pytest.mark.parametrize("given", LISTS)
def test_several_images_are_the_same_edit_however_a_manifest_gives_them(
    tmp_path: Path, given: str
) -> None:
    several, one = decoded(write_masked(tmp_path, given, ROWS), KLEIN)
    check_pictures(several, IMAGES)
    check_pictures(one, [COFFEE])
    way = given.partition(".")[0]
    files = [tmp_path / f"a-image-{i}" for i in range(3)]
    named = {"path": [f.name for f in files], "uri": [f.as_uri() for f in files]}
    assert [several.entry.source, *several.entry.references] == named.get(way, [None] * 3)
    assert one.entry.references == []


@pytest.mark.parametrize("given", LISTS)
def test_a_list_of_one_image_is_that_image(tmp_path: Path, given: str) -> None:
    (tmp_path / "one").mkdir()
    listed = read_manifest(write_masked(tmp_path, given, [{"id": "a", "image": [COFFEE], **FOG}]))
    plain = read_manifest(
        write_masked(tmp_path / "one", given, [{"id": "a", "image": COFFEE, **FOG}])
    )
    names = [name for name in plain.column_names if name not in ("file", "image")]
    assert listed.select(names).equals(plain.select(names))
    assert listed["references"].to_pylist() == [[]]


@pytest.mark.parametrize(
    "given", [given for given in LISTS if given.partition(".")[0] in ("data", "bytes", "struct")]
)
def test_a_plan_holds_no_image_and_a_manifest_that_changed_meanwhile_is_noticed(
    tmp_path: Path, given: str
) -> None:
    several, one = ROWS  # in JSONL a line stays in its place where those before it do
    plan = read_manifest(write_masked(tmp_path, given, [one, several]))
    assert plan.nbytes < 5000
    write_masked(tmp_path, given, [one, {**several, "image": [COFFEE, ROCKET, ROCKET]}])
    context = BlockContext(KLEIN, 0, str(tmp_path), None)
    same, changed = from_table(DecodedRow, decode_rows(plan, context))
    assert changed.entry.error_code == "image_not_found" and same.prepared is not None
    assert str(changed.entry.error_message).startswith("image 2 of 3: ")
    write_masked(tmp_path, given, [one, {**several, "image": [COFFEE, CHELSEA]}])
    _, shorter = from_table(DecodedRow, decode_rows(plan, context))
    assert str(shorter.entry.error_message).startswith("image 3 of 3: ")


def test_a_row_group_is_read_once_for_all_images_of_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    read_group = parquet_pictures._read_group
    monkeypatch.setattr(
        parquet_pictures, "_read_group", lambda *given: (reads.append(given), read_group(*given))[1]
    )
    path = write_masked(tmp_path, "bytes.parquet", ROWS)
    plan = read_manifest(path)
    decode_rows(plan, BlockContext(KLEIN, 0, str(tmp_path), None))
    assert [given[:2] for given in reads] == [(path, 0)]


def test_images_of_one_row_may_be_named_and_held(tmp_path: Path) -> None:
    (tmp_path / "coffee.png").write_bytes(COFFEE)
    (tmp_path / "rocket.png").write_bytes(ROCKET)
    images = ["coffee.png", data_url(CHELSEA), (tmp_path / "rocket.png").as_uri()]
    lines = [{"id": "a", "image": images, **FOG}]
    cells = [{"path": "coffee.png"}, {"bytes": CHELSEA}, {"path": images[2]}]
    pq.write_table(
        pa.table({"id": ["a"], "image": [cells], "instruction": ["add fog"]}),
        tmp_path / "m.parquet",
    )
    for path in (write_lines(tmp_path / "m.jsonl", lines), str(tmp_path / "m.parquet")):
        (row,) = decoded(path, KLEIN)
        check_pictures(row, IMAGES)
        assert row.entry.references == [None, images[2]]
        assert row.entry.place is None  # of the source alone


def test_dataflows_images_are_several_sources(tmp_path: Path) -> None:
    for i, image in enumerate(IMAGES):
        (tmp_path / f"{i}.png").write_bytes(image)
    said = [{"role": "user", "content": "add fog"}]
    lines = [{"images": ["0.png", "1.png", "2.png"], "conversations": said, "seed": 5}]
    (row,) = decoded(write_lines(tmp_path / "m.jsonl", lines), KLEIN)
    check_pictures(row, IMAGES)


def test_what_is_wrong_with_one_image_is_its_rows_fault_and_says_which(tmp_path: Path) -> None:
    (tmp_path / "coffee.png").write_bytes(COFFEE)
    (tmp_path / "none.png").write_bytes(b"none")
    lists: list[list[Any]] = [
        ["coffee.png", "none.png"],
        ["coffee.png", "coffee.png", "absent.png"],
        ["coffee.png", None],
        ["coffee.png"] * 5,
        ["coffee.png"] * 4,
    ]
    lines = [{"id": str(i), "image": images, **FOG} for i, images in enumerate(lists)]
    rows = decoded(write_lines(tmp_path / "m.jsonl", lines), KLEIN)
    assert [row.entry.error_code for row in rows] == [
        *("image_unsupported", "image_not_found", "image_missing", "option_invalid", None)
    ]
    starts = ("image 2 of 2: ", "image 3 of 3: ", "image 2 of 2: ", "image: model flux2-klein")
    for row, start in zip(rows, starts, strict=False):
        assert str(row.entry.error_message).startswith(start)
        assert row.entry.error_param == "image"


def test_more_images_than_the_model_takes_are_refused_before_one_is_read(
    tmp_path: Path, pocket: ModelSpec
) -> None:
    lines = [{"image": ["absent.png", "absent.png"], **FOG}, {"image": ["absent.png"], **FOG}]
    path = write_lines(tmp_path / "m.jsonl", lines)
    two, one = decoded(path, pocket)
    assert two.entry.error_code == "option_invalid"
    assert "pocket takes one source image; got 2" in str(two.entry.error_message)
    assert one.entry.error_code == "image_not_found"


def test_validate_tells_of_counts_and_opens_each_kind_of_further_image(tmp_path: Path) -> None:
    (tmp_path / "coffee.png").write_bytes(COFFEE)
    (tmp_path / "rocket.PNG").write_bytes(ROCKET)
    good = [{"image": ["coffee.png", "rocket.PNG"], **FOG} for _ in range(50)]
    lines = [*good, {"image": ["coffee.png", "coffee.jpeg"], **FOG}]
    lines.insert(7, {"image": ["coffee.png"] * 5, **FOG})
    lines = [{"id": f"row-{i}", **line} for i, line in enumerate(lines)]
    check = ManifestCheck(open_manifest(write_lines(tmp_path / "m.jsonl", lines)), CONFIG, KLEIN)
    check.check_rows()
    (problem,) = check.problems
    assert "column image: 1 row, option_invalid" in problem and "row-7: " in problem
    check.check_images(1)
    absent = check.problems[1]
    assert "image_not_found" in absent and "row-51: image 2 of 2: " in absent
    two = write_lines(tmp_path / "n.jsonl", [{"id": "a", "image": ["coffee.png"] * 2, **FOG}])
    assert "model pocket takes one source image; got 2" in checked(two).problems[0]


def test_a_relative_further_image_depends_on_the_folder(tmp_path: Path) -> None:
    first = str(tmp_path / "coffee.png")
    for second, relative in (("rocket.png", True), (located("rocket.png", str(tmp_path)), False)):
        lines = [{"image": [first, second], **FOG}]
        assert has_relative(read_manifest(write_lines(tmp_path / "m.jsonl", lines))) == relative


def test_a_ledger_keeps_what_it_is_told_of_further_images(tmp_path: Path) -> None:
    rows = decoded(write_masked(tmp_path, "path.parquet", ROWS), KLEIN)
    table = to_ledger(row.entry for row in rows)
    assert table["references"].to_pylist() == [["a-image-1", "a-image-2"], []]
    assert [entry.references for entry in from_ledger(table)] == [["a-image-1", "a-image-2"], []]


def test_many_lists_of_paths_are_planned_in_large_parts(tmp_path: Path) -> None:
    count = 1000
    images = pa.array([["x.jpg", "y.jpg"]] * count)
    pq.write_table(
        pa.table({"image": images, "instruction": ["fog"] * count}), tmp_path / "m.parquet"
    )
    chunks = read_manifest(str(tmp_path / "m.parquet"))["image"].chunks
    assert max(map(len, chunks)) == count


@pytest.mark.parametrize("kind", [pa.list_, pa.large_list, lambda of: pa.list_(of, 2)], ids=str)
def test_lists_of_every_kind_are_read(
    tmp_path: Path, kind: Callable[[pa.DataType], pa.DataType]
) -> None:
    (tmp_path / "coffee.png").write_bytes(COFFEE)
    (tmp_path / "rocket.png").write_bytes(ROCKET)
    images = pa.array([["coffee.png", "rocket.png"]], kind(pa.string()))
    pq.write_table(pa.table({"image": images, "instruction": ["add fog"]}), tmp_path / "m.parquet")
    (row,) = decoded(str(tmp_path / "m.parquet"), KLEIN)
    check_pictures(row, [COFFEE, ROCKET])


def test_the_plan_of_a_job_without_lists_keeps_its_rows_and_fingerprints(tmp_path: Path) -> None:
    (tmp_path / "coffee.png").write_bytes(COFFEE)
    prints = []
    for name, image in (("one", "coffee.png"), ("list", ["coffee.png"])):
        lines = [{"id": "a", "image": image, **FOG}]
        path = write_lines(tmp_path / f"{name}.jsonl", lines)
        prints.append(job_here(path, tmp_path / name).plan.rows["fingerprint"].to_pylist())
    assert prints[0] == prints[1]
