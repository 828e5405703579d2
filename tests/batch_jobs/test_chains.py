"""Chains in a manifest: which rows are one, and what is wrong with them before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs.manifest.chains import later_rows, previous_rows, with_turns_after
from batch_jobs.manifest.plan import open_manifest, read_manifest
from batch_jobs.manifest.reading import Reading
from engine.errors import ManifestInvalid
from tests.batch_jobs.data_sets import SAID
from tests.batch_jobs.manifests import checked
from tests.batch_jobs.shapes import planned, write_lines

FIRST = {"image": "a.jpg", "instruction": "make it night"}


def turn(chain: Any, number: Any, **cells: Any) -> dict[str, Any]:
    return {"chain_id": chain, "turn": number, "instruction": "add fog", **cells}


ROWS = [
    turn("b", 2, id="b2"),
    {"id": "alone", **FIRST},
    turn("a", 1, id="a1", image="a.jpg"),
    turn("a", 3, id="a3"),
    turn("b", 1, id="b1", image="b.jpg"),
    turn("a", 2, id="a2"),
]


def written(folder: Path, ending: str, rows: list[dict[str, Any]]) -> str:
    path = folder / f"m.{ending}"
    if ending == "jsonl":
        return write_lines(path, rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    if ending == "parquet":
        pq.write_table(pa.table(columns), path)
    else:
        lines = [",".join("" if row.get(n) is None else str(row[n]) for n in names) for row in rows]
        path.write_text("\n".join([",".join(names), *lines]))
    return str(path)


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_a_later_turn_needs_no_image_in_any_format(tmp_path: Path, ending: str) -> None:
    plan = read_manifest(written(tmp_path, ending, ROWS))
    rows = {row.id: row for row in planned(plan)}
    assert [(r.chain_id, r.turn, r.image) for r in rows.values()] == [
        ("b", 2, None),
        (None, None, "a.jpg"),
        ("a", 1, "a.jpg"),
        ("a", 3, None),
        ("b", 1, "b.jpg"),
        ("a", 2, None),
    ]
    assert all(row.fault is None for row in rows.values())
    assert previous_rows(plan).tolist() == [4, -1, -1, 5, -1, 2]
    assert later_rows(plan) == [(0, 4), (5, 2), (3, 5)]
    asked = pa.chunked_array([["a2", "alone"]])
    assert with_turns_after(plan, asked).to_pylist() == ["alone", "a3", "a2"]


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([turn("a", 2), turn("b", 1, image="a.jpg")], "these are missing: a turn 1"),
        ([turn("a", 1, image="a.jpg"), turn("a", 4)], "these are missing: a turn 2"),
        ([turn("a", 1, image="a.jpg"), turn("a", 1)], "of these there are several: a turn 1"),
        ([turn("a", 1, image="a.jpg", id="x"), turn("a", None, id="y")], "is missing in y"),
        ([turn("a", 1, image="a.jpg", id="x"), turn(None, 2, id="y")], "is missing in y"),
    ],
)
def test_a_bad_chain_is_refused_in_one_line(
    tmp_path: Path, ending: str, rows: list[dict[str, Any]], says: str
) -> None:
    path = written(tmp_path, ending, rows)
    with pytest.raises(ManifestInvalid) as refused:
        read_manifest(path)
    message = refused.value.message
    assert message.startswith(f"{path}: ") and message.endswith(says) and "\n" not in message
    assert checked(path).problems[0] == message


@pytest.mark.parametrize("wrong", ["0", "1001", "-1", "first", "1.5", "9" * 5000])
def test_a_turn_that_is_no_number_of_one_is_refused(tmp_path: Path, wrong: str) -> None:
    for ending in ("parquet", "jsonl", "csv"):
        path = written(tmp_path, ending, [turn("a", wrong, image="a.jpg")])
        with pytest.raises(
            ManifestInvalid, match=r"turn must be a whole number from 1 to 1000; got"
        ):
            read_manifest(path)


def test_numbers_that_pandas_widened_are_turns(tmp_path: Path) -> None:
    rows = [turn(7, 1.0, image="a.jpg"), turn(7, 2.0), {**FIRST, "turn": float("nan")}]
    plan = read_manifest(written(tmp_path, "parquet", rows))
    assert plan["chain_id"].to_pylist() == ["7", "7", None]
    assert plan["turn"].to_pylist() == [1, 2, None]


def test_a_turn_of_nothing_is_carried(tmp_path: Path) -> None:
    manifest = open_manifest(written(tmp_path, "csv", [{**FIRST, "turn": "left"}]))
    (row,) = planned(manifest.plan)
    assert (row.turn, row.carried) == (None, '{"turn": "left"}')


def magic_brush(folder: Path) -> str:
    rows = [
        {"img_id": "242", "turn_index": n, "source_img": f"{n}.jpg", "instruction": SAID}
        for n in (1, 2, 3)
    ]
    return write_lines(folder / "dev.jsonl", rows)


def test_magic_brush_is_read_turn_by_turn_where_its_columns_are_named(tmp_path: Path) -> None:
    path = magic_brush(tmp_path)
    single = open_manifest(path)  # each turn from what a person made of the one before
    assert [row.image for row in planned(single.plan)] == ["1.jpg", "2.jpg", "3.jpg"]
    columns = (("img_id", "chain_id"), ("turn_index", "turn"))
    chained = open_manifest(path, Reading(columns=columns))
    assert [(row.turn, row.image) for row in planned(chained.plan)] == [
        (1, "1.jpg"),
        (2, None),
        (3, None),
    ]
    assert chained.notes == [
        "the images of 2 rows are not read: a later turn edits what the one before made"
    ]
    with pytest.raises(ManifestInvalid, match=r'no column "chain" \(--chain-id-column\)'):
        open_manifest(path, Reading(columns=(("chain", "chain_id"),)))


def test_further_images_of_a_later_turn_are_seen(tmp_path: Path) -> None:
    rows = [turn("a", 1, image="a.jpg"), turn("a", 2, image=["x.jpg", "b.jpg"])]
    _, second = planned(read_manifest(write_lines(tmp_path / "m.jsonl", rows)))
    assert (second.image, [one.path for one in second.references]) == (None, ["b.jpg"])


def test_a_check_opens_no_picture_that_a_job_has_yet_to_make(
    tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    for name in "ab":
        (tmp_path / f"{name}.jpg").write_bytes(photographs["coffee"])
    check = checked(written(tmp_path, "csv", ROWS))
    assert (check.problems, check.images_opened) == ([], 3)
