"""A language model of a folder is loaded once, answers many captions at once, and is checked as a
server's is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from batch_jobs.stopping import Exit
from engine.errors import EngineError, NotReady
from engine.spec import ModelSpec
from tests.batch_jobs.editors import dry
from tests.batch_jobs.jobs import ledger
from tests.batch_jobs.shapes import write_lines
from tests.tiny import clip, language_models
from tests.triplet_jobs.factories import JOB, changed, factory_here, with_job
from triplet_jobs.config import TripletConfig
from triplet_jobs.folder_rewriter import RewriteOrder, RunRewriting, rewritten_here
from triplet_jobs.language_model import Draw, LanguageModel

CAPTIONS = ("一只猫", "a house by the sea, under a grey sky with many clouds")


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return language_models.build_random(tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="module")
def answering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return language_models.build_answering(tmp_path_factory.mktemp("gpt2"))


def config(folder: Path, **values: Any) -> TripletConfig:
    told = {"n_samples": 1, "min_edge_correlation": 0.0, "rewriter_requests": 3}
    return TripletConfig(job=JOB, rewriter=str(folder), **{**told, **values})


class Counted:
    """Rewrites here, counts the captions that were asked, and stops after so many blocks."""

    def __init__(self, blocks: int | None = None) -> None:
        self.asked: list[str] = []
        self._blocks = blocks

    def __call__(self, order: RewriteOrder, questions: pa.Table) -> Iterator[pa.Table]:
        for number, answers in enumerate(rewritten_here(order, questions)):
            if number == self._blocks:
                raise NotReady("killed")
            start = number * order.at_once
            self.asked += questions["id"].to_pylist()[start : start + order.at_once]
            yield answers


def run(
    captions: Path | str,
    output: Path,
    config: TripletConfig,
    spec: ModelSpec,
    rewriting: RunRewriting = rewritten_here,
) -> Exit:
    return factory_here(captions, output, config, dry(spec), rewriting).run()


def test_a_caption_is_answered_among_others_as_it_is_alone(random_model: Path) -> None:
    model = LanguageModel(random_model, "cpu")
    together = model.answer(CAPTIONS, [1, 1])
    assert together == [model.answer([text], [1])[0] for text in CAPTIONS]
    assert len({*together, *model.answer(CAPTIONS[:1], [2])}) == 3


def test_a_gguf_file_answers_as_the_folder_that_it_was_made_of(
    random_model: Path, captions: Path, tmp_path: Path, pocket: ModelSpec
) -> None:
    file = language_models.build_gguf(random_model, tmp_path / "model-f32.gguf")
    models = [LanguageModel(place, "cpu") for place in (random_model, file)]
    assert len({str(model.answer(CAPTIONS, [1, 2])) for model in models}) == 1
    counted = Counted()
    asked = config(file, rewriter_requests=4)
    assert run(captions, tmp_path / "out", asked, pocket, counted) == Exit.FAILED_ROWS
    assert len(counted.asked) == 4


def test_an_answer_is_drawn_as_a_server_draws_it(answering: Path) -> None:
    draw = Draw(range(4000), 1, torch.device("cpu"))
    logits = torch.tensor([3.0, 1.0]).log().expand(4000, 2)
    written = torch.tensor([[1, 0, 0]]).expand(4000, 3)  # the prompt is 1, then twice 0
    drawn = draw(written, logits).argmax(1).float().mean()
    expected = torch.softmax((logits[0] - torch.tensor([0.2, 0.0])) / 0.7, 0)[1]
    assert abs(drawn - expected) < 0.025  # four deviations
    for answer in LanguageModel(answering, "cpu").answer(CAPTIONS, [1, 2]):
        assert answer.startswith("make it ") and answer.endswith("\nEND")


def test_its_answers_become_edits_of_each_caption_and_it_is_asked_once(
    captions: Path, tmp_path: Path, answering: Path, pocket: ModelSpec
) -> None:
    two = config(answering, rewrites=2)
    counted = Counted()
    assert run(captions, tmp_path / "out", two, pocket, counted) in (Exit.OK, Exit.FAILED_ROWS)
    rows, ids = ledger(tmp_path / "out"), {"astronaut", "coffee", "chelsea", "rocket"}
    assert set(counted.asked) == ids and len(counted.asked) == 4
    edited = {id: row for id, row in rows.items() if row["error_code"] is None}
    assert len(edited) >= 4  # of a few captions three answers in a row are no edits
    for id, row in edited.items():
        told = json.loads(row["carried"])
        assert told["edited_prompt"] == "a place in bad weather"
        other = rows[f"{id.partition('/')[0]}/{1 - int(id.split('/')[1])}/0"]
        assert {row["instruction"], other["instruction"]} == {"make it snow", "make it rain"}
    failed = [row for row in rows.values() if row["error_code"]]
    assert {row["error_code"] for row in failed} <= {"rewriting_failed"}
    (tmp_path / "out" / "_SUCCESS").unlink()
    run(captions, tmp_path / "out", two, pocket, counted)
    assert len(counted.asked) == 4
    again = with_job(two, retry="rewriting_failed")
    run(captions, tmp_path / "out", again, pocket, counted)
    assert len(counted.asked) == 4 + len(failed)


def test_what_it_answered_before_it_was_killed_is_kept(
    captions: Path, tmp_path: Path, answering: Path, pocket: ModelSpec
) -> None:
    whole = Counted()
    run(captions, tmp_path / "whole", config(answering), pocket, whole)
    killed = Counted(blocks=1)
    with pytest.raises(NotReady):
        run(captions, tmp_path / "out", config(answering), pocket, killed)
    rest = Counted()
    run(captions, tmp_path / "out", config(answering), pocket, rest)
    assert (len(killed.asked), len(rest.asked)) == (3, 1)
    assert killed.asked + rest.asked == whole.asked
    said = [
        {id: (row["instruction"], row["error_code"]) for id, row in ledger(output).items()}
        for output in (tmp_path / "out", tmp_path / "whole")
    ]
    assert said[0] == said[1]


def test_three_answers_that_are_no_edits_and_a_caption_too_long_are_errors_of_their_rows(
    album: Path, tmp_path: Path, random_model: Path, answering: Path, pocket: ModelSpec
) -> None:
    photograph = str(album / "coffee.jpg")
    rows = [
        {"id": "cat", "image": photograph, "caption": "a cat"},
        {"id": "bare", "image": photograph},
        {"id": "long", "image": photograph, "caption": "very " * 400},
        {"id": "given", "image": photograph, "caption": "a cat", "instruction": "add fog"},
    ]
    file = write_lines(tmp_path / "captions.jsonl", rows)
    says = {
        random_model: {"cat": "3 answers were no edits of the caption", "bare": "no caption"},
        answering: {"long": f"has {language_models.POSITIONS}", "bare": "no caption"},
    }
    for number, (folder, expected) in enumerate(says.items()):
        out = tmp_path / f"{number}"
        assert run(file, out, config(folder), pocket) == Exit.FAILED_ROWS
        found = ledger(out)
        for id, text in expected.items():
            assert found[id]["error_code"] == "rewriting_failed"
            assert text in found[id]["error_message"]
        assert found["given/given/0"]["instruction"] == "add fog"


def test_a_folder_that_holds_none_is_refused_with_what_it_holds(
    captions: Path, tmp_path: Path, answering: Path, pocket: ModelSpec
) -> None:
    gguf = tmp_path / "gguf"
    gguf.mkdir()
    for name in ("model-q4_k_m.gguf", "model-q8_0.gguf"):
        (gguf / name).write_text("not found")
    refused = {
        gguf: "holds 2 GGUF files .*: name one of them",
        gguf / "model-q4_k_m.gguf": "is called GGUF, and its content is something else",
        clip.build(tmp_path / "clip"): "holds a CLIPModel, and no language model",
        tmp_path / "none": "rewriter must be grammar, an http",
    }
    for folder, says in refused.items():
        with pytest.raises(EngineError, match=says):
            run(captions, tmp_path / "out", config(folder), pocket)
    with pytest.raises(EngineError, match="asked of a server"):
        run(captions, tmp_path / "out", config(answering, rewriter_model="x"), pocket)
    arithmetic = changed(config(answering), pairer="programmatic", min_edge_correlation=None)
    with pytest.raises(EngineError, match="a language model's have none"):
        factory_here(captions, tmp_path / "out", arithmetic)
    assert not (tmp_path / "out").exists()
