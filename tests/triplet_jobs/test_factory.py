"""A factory makes every candidate once, keeps the best, and accounts for all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batch_jobs.ledger.ledger import Ledger
from batch_jobs.stopping import Exit
from engine.errors import ManifestInvalid, OptionInvalid, OutputUnusable
from engine.spec import ModelSpec
from storage.storage import Storage
from tests.batch_jobs.editors import dry
from tests.batch_jobs.jobs import ledger
from tests.batch_jobs.shapes import write_lines
from tests.triplet_jobs.factories import (
    ARITHMETIC,
    JOB,
    account,
    changed,
    data_set,
    factory_here,
    files,
    pixels,
    rows_of,
    with_job,
)
from training.kinds import KINDS, STRENGTHS
from triplet_jobs.arithmetic import all_kinds
from triplet_jobs.config import TripletConfig

PUBLISHED = (
    *("original_prompt", "original_image", "edit_prompt", "edited_prompt", "edited_image"),
)


def test_a_folder_of_photographs_becomes_triplets_that_are_right(
    album: Path, tmp_path: Path
) -> None:
    assert factory_here(album, tmp_path / "out").run() == Exit.OK
    table = data_set(tmp_path / "out")
    assert tuple(table.column_names[:5]) == PUBLISHED
    assert account(tmp_path / "out")["candidates"] == 12
    for row in table.to_pylist():
        source, edited = pixels(row["original_image"]), pixels(row["edited_image"])
        assert source.shape == edited.shape == (64, 64, 3)
        strength = np.random.default_rng(row["seed"]).uniform(*STRENGTHS)
        truth = KINDS[row["kind"]].apply(source.astype(np.float32) / 255, float(strength))
        assert np.abs(truth * 255 - edited).max() <= 0.5
        assert row["edit_prompt"] and row["original_prompt"] is None


def test_a_kind_that_pocket_was_not_taught_is_made_where_it_is_named(
    album: Path, tmp_path: Path
) -> None:
    config = changed(ARITHMETIC, kind=("relief",), rewrites=2)
    assert factory_here(album, tmp_path / "out", config).run() == Exit.OK
    rows = data_set(tmp_path / "out").to_pylist()
    assert [row["kind"] for row in rows] == ["relief"] * 8
    assert len({row["edit_prompt"] for row in rows}) > 4
    assert "relief" not in all_kinds()


def test_every_candidate_is_a_row_with_its_scores_and_why_it_is_not_kept(
    captions: Path, tmp_path: Path
) -> None:
    config = changed(ARITHMETIC, n_samples=4, max_out_samples=1, min_change=25.0)
    assert factory_here(captions, tmp_path / "out", config).run() == Exit.OK
    rows, told = ledger(tmp_path / "out"), account(tmp_path / "out")
    assert len(rows) == told["candidates"] == 4 * 3 * 4
    assert all(row["status"] == "ok" and row["scores"] for row in rows.values())
    kept = {id for id, row in rows.items() if row["filtered"] is None}
    assert kept == set(rows_of(tmp_path / "out")) and len(kept) == told["kept"] > 0
    assert set(told["filtered"]) == {"change", "not_among_best"}
    for row in rows.values():
        assert (row["filtered"] == "change") == (row["scores"]["change"] < 25.0)
        assert bool(row["outputs"]) == (row["filtered"] is None)
    assert len(files(tmp_path / "out", "images")) == len(kept)
    assert len(files(tmp_path / "out", "sources")) == len(kept)


def test_captions_come_along_in_their_language(captions: Path, tmp_path: Path) -> None:
    assert factory_here(captions, tmp_path / "out").run() == Exit.OK
    rows = rows_of(tmp_path / "out").values()
    cat = next(row for row in rows if row["original_prompt"] == "一只猫")
    assert cat["edited_prompt"].startswith("一只猫，")
    for row in rows:
        assert row["edited_prompt"].startswith(row["original_prompt"].rstrip("."))


def test_a_finished_factory_does_nothing_again(captions: Path, tmp_path: Path) -> None:
    factory_here(captions, tmp_path / "out").run()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.p*")}
    assert factory_here(captions, tmp_path / "out").run() == Exit.OK
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.p*")} == before


def test_other_filters_make_again_what_is_wanted_now_and_nothing_else(
    captions: Path, tmp_path: Path
) -> None:
    strict = changed(ARITHMETIC, n_samples=2, max_out_samples=1, min_change=25.0)
    loose = changed(strict, max_out_samples=2, min_change=10.0)
    factory_here(captions, tmp_path / "out", strict).run()
    first = ledger(tmp_path / "out")
    factory_here(captions, tmp_path / "out", loose).run()
    second = ledger(tmp_path / "out")
    kept = {id for id, row in first.items() if row["filtered"] is None}
    assert kept < {id for id, row in second.items() if row["filtered"] is None}
    for id in kept:
        assert second[id]["finished_at"] == first[id]["finished_at"]
    factory_here(captions, tmp_path / "loose", loose).run()
    assert data_set(tmp_path / "out") == data_set(tmp_path / "loose")
    factory_here(captions, tmp_path / "out", strict).run()
    assert set(rows_of(tmp_path / "out")) == kept
    assert len(files(tmp_path / "out", "images")) == len(kept)


def test_a_caption_that_can_have_no_candidate_is_one_row_with_its_error(
    album: Path, tmp_path: Path
) -> None:
    photo = str(album / "coffee.jpg")
    rows: list[dict[str, Any]] = [
        {"id": "no kind", "image": photo, "instruction": "make it better"},
        {"id": "other kind", "image": photo, "kind": "nigth"},
        {"id": "mask", "image": photo, "mask": photo},
        {"id": "detail", "image": photo, "detail": "source"},
        {"id": "no image", "image": None},
        {"id": "gone", "image": str(album / "gone.jpg"), "kind": "fog"},
        {"id": "good", "image": photo, "instruction": "夜", "kind": "night"},
    ]
    file = write_lines(tmp_path / "captions.jsonl", rows)
    assert factory_here(file, tmp_path / "out").run() == Exit.FAILED_ROWS
    found = ledger(tmp_path / "out")
    messages = {id: row["error_message"] for id, row in found.items() if row["error_code"]}
    assert "give it in the column kind" in messages["no kind"]
    assert 'Did you mean "night"?' in messages["other kind"]
    assert "leave out the mask" in messages["mask"]
    assert "detail is no option of a pair" in messages["detail"]
    assert {id.partition("/")[0] for id in messages} == {row["id"] for row in rows} - {"good"}
    (kept,) = rows_of(tmp_path / "out").values()
    assert (kept["id"], kept["edit_prompt"], kept["kind"]) == ("good/given/0", "夜", "night")


def test_a_given_instruction_with_another_kind_is_made_again_and_nothing_else(
    album: Path, tmp_path: Path
) -> None:
    photo = str(album / "coffee.jpg")

    def made(kind: str) -> dict[str, Any]:
        row = {"id": "own", "image": photo, "instruction": "make it nicer", "kind": kind}
        drawn = {"id": "drawn", "image": photo, "kind": "sepia"}
        captions = write_lines(tmp_path / "captions.jsonl", [row, drawn])
        assert factory_here(captions, tmp_path / "out", changed(ARITHMETIC, rewrites=1)).run() == 0
        return rows_of(tmp_path / "out")

    first, second = made("night"), made("negative")
    assert first["drawn/sepia/0"] == second["drawn/sepia/0"]
    assert second["own/given/0"]["kind"] == "negative"
    pictures = [pixels(rows["own/given/0"]["edited_image"]) for rows in (first, second)]
    assert not np.array_equal(*pictures)


def test_a_model_edits_at_scales_and_seeds_of_each_candidate(
    captions: Path, tmp_path: Path, pocket: ModelSpec
) -> None:
    config = TripletConfig(
        job=JOB, n_samples=3, rewrites=1, min_edge_correlation=0.0, min_cfg=2, max_cfg=4
    )
    assert factory_here(captions, tmp_path / "out", config, dry(pocket)).run() == Exit.OK
    rows = list(ledger(tmp_path / "out").values())
    assert len({row["seed"] for row in rows}) == len(rows) == 12
    scales = {row["guidance_scale"] for row in rows}
    assert len(scales) > 8 and min(scales) >= 2 and max(scales) <= 4
    default = pocket.defaults["image_guidance_scale"]
    for row in rows:
        assert 0.8 * default <= row["image_guidance_scale"] <= 1.2 * default + 0.01
    for row in rows_of(tmp_path / "out").values():
        assert pixels(row["original_image"]).shape == pixels(row["edited_image"]).shape


def test_a_job_that_died_before_its_choice_goes_on_to_it(captions: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    config = changed(ARITHMETIC, max_out_samples=1, n_samples=2)
    factory_here(captions, whole, config).run()
    factory_here(captions, broken, config).run()
    rows = Ledger(Storage(str(broken))).read(["id"], placed=True)
    for path in rows["part"].unique().to_pylist()[1:]:
        (broken / path).unlink()
    for name in ("_SUCCESS", "triplets.json", "README.md"):
        (broken / name).unlink()
    assert factory_here(captions, broken, config).run() == Exit.OK
    assert data_set(broken) == data_set(whole)
    assert json.loads((broken / "_SUCCESS").read_text())["rows"] == 24


def test_a_data_set_comes_in_files_of_about_a_size(
    captions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batch_jobs.export.pairs.ROWS_AT_ONCE", 2)
    monkeypatch.setattr("batch_jobs.export.triplets.ROWS_AT_ONCE", 2)
    monkeypatch.setattr("triplet_jobs.data_set.MB", 10_000)
    factory_here(captions, tmp_path / "out", changed(ARITHMETIC, shard_mb=1)).run()
    many = files(tmp_path / "out", "data")
    assert len(many) > 2 and account(tmp_path / "out")["files"] == len(many)
    one = changed(ARITHMETIC, shard_mb=1000)
    first = data_set(tmp_path / "out")
    factory_here(captions, tmp_path / "out", one).run()
    assert len(files(tmp_path / "out", "data")) == 1
    assert data_set(tmp_path / "out") == first


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (changed(ARITHMETIC, kind=("nigth",)), 'Did you mean "night"'),
        (changed(ARITHMETIC, min_cfg=1, max_cfg=2), "programmatic has no guidance_scale"),
        (changed(ARITHMETIC, rewriter="http://127.0.0.1:9/v1"), "a language model's have none"),
        (changed(ARITHMETIC, rewriter="gpt"), "must be grammar, an http"),
        (with_job(ARITHMETIC, style="sketch"), "no style"),
        (
            changed(ARITHMETIC, job={"engine": {"options": {"detail": "source"}}}),
            "detail is no option of a pair",
        ),
    ],
)
def test_what_a_factory_cannot_do_is_refused_by_name(
    album: Path, tmp_path: Path, config: TripletConfig, says: str
) -> None:
    with pytest.raises(OptionInvalid, match=says):
        factory_here(album, tmp_path / "out", config)
    assert not (tmp_path / "out").exists()


def test_an_output_of_something_else_is_left_as_it_is(
    album: Path, captions: Path, tmp_path: Path
) -> None:
    factory_here(album, tmp_path / "out").run()
    before = {path: path.read_bytes() for path in (tmp_path / "out").glob("*.json")}
    with pytest.raises(OutputUnusable, match="of another manifest"):
        factory_here(captions, tmp_path / "out").run()
    assert {path: path.read_bytes() for path in (tmp_path / "out").glob("*.json")} == before
    assert (tmp_path / "out" / "_SUCCESS").exists()


def test_captions_are_no_turns_and_their_column_is_there(album: Path, tmp_path: Path) -> None:
    row = {"image": str(album / "coffee.jpg"), "chain_id": "a", "turn": 1}
    turns = write_lines(tmp_path / "turns.jsonl", [row])
    with pytest.raises(ManifestInvalid, match="leave out turn"):
        factory_here(turns, tmp_path / "out")
    plain = write_lines(tmp_path / "plain.jsonl", [{"image": row["image"], "says": "coffee"}])
    with pytest.raises(ManifestInvalid, match='no row has a column "text"'):
        factory_here(plain, tmp_path / "out", changed(ARITHMETIC, caption_column="text"))
    factory_here(plain, tmp_path / "out", changed(ARITHMETIC, caption_column="says")).run()
    assert {row["original_prompt"] for row in rows_of(tmp_path / "out").values()} == {"coffee"}
