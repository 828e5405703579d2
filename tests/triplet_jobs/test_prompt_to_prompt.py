"""Pairs that are painted: two captions in, no photograph, judged by a CLIP."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from batch_jobs.stopping import Exit
from engine.config import EngineConfig
from engine.errors import ModelError
from engine.loading import load_model
from engine.options import EditOptions
from engine.pair import find_pair_model
from engine.quality.clip_scores import ClipScorer
from tests.batch_jobs.jobs import ledger
from tests.batch_jobs.shapes import write_lines
from tests.engine.families import one_thread
from tests.engine.test_prompt_to_prompt import painted, pair
from tests.tiny import clip, stable_diffusion
from tests.triplet_jobs.factories import (
    ARITHMETIC,
    JOB,
    account,
    changed,
    factory_here,
    pixels,
    rows_of,
)
from triplet_jobs.config import TripletConfig
from triplet_jobs.price import price

CAPTIONS: list[dict[str, Any]] = [
    {
        "id": name,
        "original_prompt": before,
        "edit_prompt": f"make it {name}",
        "edited_prompt": f"{before}, {name}",
        "url": f"https://example.org/{name}",
    }
    for name, before in (("night", "a cat on a sofa"), ("snow", "a house by the sea"))
]
NO_THRESHOLD = {"clip_threshold": -1, "clip_dir_threshold": -1, "clip_img_threshold": -1}


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stable_diffusion.build(tmp_path_factory.mktemp("painter"))


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip.build(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    return Path(write_lines(tmp_path / "captions.jsonl", CAPTIONS))


def config(painter: Path, **values: Any) -> TripletConfig:
    engine = EngineConfig(
        model=str(painter),
        device="cpu",
        determinism="strict",
        num_threads=1,
        options=EditOptions(num_inference_steps=3),
    )
    job = JOB.model_copy(update={"engine": engine})
    told = {"pairer": "prompt_to_prompt", "n_samples": 2, "min_change": 0.0}
    return TripletConfig(job=job, **{**told, **values})


def test_captions_become_the_pairs_of_the_engine_with_their_scores(
    captions: Path, tmp_path: Path, painter: Path, clip_folder: Path
) -> None:
    asked = config(painter, clip=str(clip_folder), **NO_THRESHOLD)
    assert factory_here(captions, tmp_path / "out", asked).run() == Exit.OK
    rows, kept = ledger(tmp_path / "out"), rows_of(tmp_path / "out")
    assert len(rows) == len(kept) == len({row["p2p_threshold"] for row in kept.values()}) == 4
    engine = asked.job.engine
    editor, scorer = load_model(find_pair_model(engine), engine).editor, ClipScorer(clip_folder)
    for id, row in kept.items():
        told = {name: row[name] for name in CAPTIONS[0] if name != "id"}
        assert told | {"id": id.partition("/")[0]} in CAPTIONS
        assert 0.1 <= row["p2p_threshold"] <= 0.9 and 7.5 <= row["guidance_scale"] <= 15
        assert rows[id]["warnings"] == []
        both = [pixels(row[name]) for name in ("original_image", "edited_image")]
        texts = row["original_prompt"], row["edited_prompt"]
        scales = {"seed": row["seed"], "guidance_scale": row["guidance_scale"]}
        with one_thread():  # as the job; of two the sums have other last bits
            (picture,) = painted(editor, [pair(editor, row["p2p_threshold"], texts, **scales)])
        assert np.concatenate(both, axis=1).tobytes() == picture.tobytes()
        scores = asdict(scorer.score(*map(Image.fromarray, both), *texts))
        assert {name: row[name] for name in scores} == pytest.approx(scores, abs=1e-6)


def test_what_a_pair_depends_on_is_made_again_and_nothing_else(
    captions: Path, tmp_path: Path, painter: Path
) -> None:
    def made(asked: TripletConfig) -> dict[str, Any]:
        assert factory_here(captions, tmp_path / "out", asked).run() == Exit.OK
        return {id: row["finished_at"] for id, row in ledger(tmp_path / "out").items()}

    asked = config(painter)
    first = made(asked)
    assert made(asked) == first
    write_lines(captions, [CAPTIONS[0] | {"edited_prompt": "a dog on a sofa"}, CAPTIONS[1]])
    second = made(asked)
    assert {id for id in first if second[id] != first[id]} == {"night/given/0", "night/given/1"}
    assert rows_of(tmp_path / "out")["night/given/0"]["edited_prompt"] == "a dog on a sofa"
    for other in ({"p2p_attention": "both"}, {"p2p_attention": "both", "max_p2p": 0.5}):
        before, after = second, made(changed(asked, **other))
        assert all(after[id] != before[id] for id in before)
        second = after


def test_the_best_by_direction_of_those_that_pass_are_kept(
    captions: Path, tmp_path: Path, painter: Path, clip_folder: Path
) -> None:
    asked = config(painter, n_samples=3, max_out_samples=1, clip=str(clip_folder), **NO_THRESHOLD)
    factory_here(captions, tmp_path / "out", asked).run()
    rows = ledger(tmp_path / "out")
    for name in ("night", "snow"):
        found = {id: row for id, row in rows.items() if id.startswith(name)}
        best = max(found, key=lambda id: found[id]["scores"]["clip_sim_dir"])
        assert [id for id, row in found.items() if row["filtered"] is None] == [best]
    for threshold, reason in (
        ("clip_threshold", "clip_sim_0"),
        ("clip_dir_threshold", "clip_sim_dir"),
        ("clip_img_threshold", "clip_sim_image"),
    ):
        strict = changed(asked, **{threshold: 1.0})
        factory_here(captions, tmp_path / "out", strict).run()
        assert account(tmp_path / "out")["filtered"] == {reason: 6}


def test_any_pairer_is_judged_by_a_clip(
    captions: Path, album: Path, tmp_path: Path, clip_folder: Path
) -> None:
    judged = changed(ARITHMETIC, rewrites=1, clip=str(clip_folder), **NO_THRESHOLD)
    rows = [{"image": str(album / "coffee.jpg"), "caption": "a cup", "kind": "night"}]
    photographs = write_lines(tmp_path / "photographs.jsonl", [*rows, rows[0] | {"caption": None}])
    assert factory_here(photographs, tmp_path / "out", judged).run() == Exit.FAILED_ROWS
    (kept,) = rows_of(tmp_path / "out").values()
    assert kept["clip_sim_dir"] is not None and kept["original_prompt"] == "a cup"
    assert account(tmp_path / "out")["failed"] == {"instruction_empty": 1}


def test_a_caption_without_a_pair_is_one_row_with_its_error(tmp_path: Path, painter: Path) -> None:
    good = CAPTIONS[0]
    rows = [
        good,
        {"id": "bare", "original_prompt": None, "edit_prompt": "x", "edited_prompt": "y"},
        {"id": "half", "original_prompt": "a cat", "edit_prompt": "make it fly"},
        good | {"id": "long", "edited_prompt": "very " * 60},
    ]
    asked = config(painter, n_samples=1)
    file = write_lines(tmp_path / "captions.jsonl", rows)
    assert factory_here(file, tmp_path / "out", asked).run() == Exit.FAILED_ROWS
    found = {
        id.partition("/")[0]: row["error_code"] for id, row in ledger(tmp_path / "out").items()
    }
    assert found == {
        "night": None,
        "bare": "instruction_empty",
        "half": "instruction_empty",
        "long": "instruction_too_long",
    }


def test_the_price_is_told_without_a_photograph(
    captions: Path, tmp_path: Path, painter: Path
) -> None:
    told = price(factory_here(captions, tmp_path / "out", config(painter)))
    assert "48 rows of model calls in all" in told  # 4 pairs x 2 pictures x 3 steps x 2 branches
    assert "estimate: 4 rows" in told and len(told.splitlines()) == 4


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"clip_threshold": 0.3}, "clip_threshold needs clip, the folder of a CLIP"),
        ({"pairer": "editor", "max_p2p": 0.5}, "max_p2p has no effect on pairer editor"),
        ({"min_p2p": 0.8, "max_p2p": 0.2}, "min_p2p 0.8 is above max_p2p 0.2"),
    ],
)
def test_a_setting_without_effect_is_refused(
    painter: Path, values: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        config(painter, **values)


def test_a_model_that_paints_nothing_and_a_folder_without_a_clip_are_refused(
    captions: Path, tmp_path: Path, painter: Path
) -> None:
    pocket = changed(config(painter), job=JOB.model_copy(update={"engine": EngineConfig()}))
    with pytest.raises(ModelError, match="pocket paints no pairs"):
        factory_here(captions, tmp_path / "out", pocket)
    with pytest.raises(ModelError, match="is not a readable JSON file"):
        factory_here(captions, tmp_path / "out", config(painter, clip=str(painter)))
    assert not (tmp_path / "out").exists()
