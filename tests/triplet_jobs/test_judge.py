"""A factory's pairs are judged by a small model that knows its own edits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from batch_jobs.stopping import Exit
from engine.edit_judge import EditJudge
from engine.errors import ModelError
from engine.quality.judge import PocketJudge
from tests.batch_jobs.jobs import ledger
from tests.batch_jobs.shapes import write_lines
from tests.conftest import POCKET, photograph
from tests.tiny import stable_diffusion
from tests.triplet_jobs.factories import (
    ARITHMETIC,
    account,
    changed,
    factory_here,
    pixels,
    rows_of,
    with_job,
)

ENGINE = ARITHMETIC.job.engine.model_copy(update={"resolution": 128})
ASKED = {  # the edit that is made -> what is said of it
    "night": "make it night",
    "tint_green": "make it a pencil sketch",  # which it is not
    "relief": "replace the dog with a horse",  # of which the judge knows nothing
}


@pytest.fixture
def captions(album: Path, tmp_path: Path) -> str:
    rows = [
        {"id": kind, "image": str(album / "chelsea.jpg"), "instruction": text, "kind": kind}
        for kind, text in ASKED.items()
    ]
    return write_lines(tmp_path / "captions.jsonl", rows)


def test_a_pair_that_is_not_what_its_instruction_says_is_filtered(
    captions: str, tmp_path: Path
) -> None:
    asked = with_job(changed(ARITHMETIC, judge="pocket"), engine=ENGINE)
    assert factory_here(captions, tmp_path / "out", asked).run() == Exit.OK
    rows, kept = ledger(tmp_path / "out"), rows_of(tmp_path / "out")
    assert {id.partition("/")[0] for id in kept} == {"night", "relief"}
    assert account(tmp_path / "out")["filtered"] == {"following": 1}
    assert account(tmp_path / "out")["settings"]["judge"] == "pocket"
    assert rows["tint_green/given/0"]["scores"]["following"] < 0.5
    assert rows["relief/given/0"]["scores"]["following"] is None
    judge, night = PocketJudge.load(POCKET), kept["night/given/0"]
    pair = [
        torch.from_numpy(pixels(night[name]).astype(np.float32) / 255).permute(2, 0, 1)[None]
        for name in ("original_image", "edited_image")
    ]
    sure = float(judge.answers(*pair)[0, judge.kinds.index("night")])
    assert night["following"] == pytest.approx(sure, abs=1e-4) and sure > 0.5


def test_a_judge_that_comes_later_judges_every_pair(captions: str, tmp_path: Path) -> None:
    def made(asked: Any) -> set[str]:
        assert factory_here(captions, tmp_path / "out", asked).run() == Exit.OK
        return set(rows_of(tmp_path / "out"))

    plain = with_job(ARITHMETIC, engine=ENGINE)
    assert len(made(plain)) == 3
    judged = changed(plain, judge="pocket")
    assert len(made(judged)) == 2
    assert len(made(changed(judged, min_following=0.0))) == 3
    assert made(plain) == {f"{kind}/given/0" for kind in ASKED}


def test_a_model_without_a_judge_and_a_bound_without_one_are_refused(
    captions: str, tmp_path: Path
) -> None:
    folder = stable_diffusion.build(tmp_path / "painter")
    with pytest.raises(ModelError, match="has no judge of edits"):
        factory_here(captions, tmp_path / "out", changed(ARITHMETIC, judge=str(folder)))
    with pytest.raises(ValueError, match="min_following needs judge"):
        changed(ARITHMETIC, min_following=0.4)
    assert not (tmp_path / "out").exists()


def test_of_an_edit_that_it_does_not_know_it_says_nothing() -> None:
    picture = photograph("chelsea")
    judge = EditJudge("pocket")
    assert judge.following(picture, picture, "make it night") == pytest.approx(0, abs=0.2)
    assert judge.following(picture, picture, "replace the dog with a horse") is None
    assert judge.following(picture, picture, "make it night, " * 40) is None
