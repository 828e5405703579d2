"""An answer is an edit of its caption or is refused; the grammar says what training may hear."""

from __future__ import annotations

import pytest

from engine.errors import RewritingFailed
from training.phrase_book import phrases
from triplet_jobs.captions import Caption
from triplet_jobs.grammar import Grammar
from triplet_jobs.rewriting import parse


def caption(id: str, text: str | None = "a cat on a sofa", kind: str | None = None) -> Caption:
    return Caption({"id": id, "instruction": None}, text, None, kind, {})


def test_an_answer_is_an_instruction_and_a_caption() -> None:
    found = ("make it a dog", "a dog on a sofa")
    assert parse("make it a dog\n%%\na dog on a sofa\nEND", "a cat on a sofa") == found
    assert parse(" make it a dog \n%%\n a dog on a sofa", "a cat on a sofa") == found


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("make it a dog", "1 parts"),
        ("make it\n%%\na dog\n%%\nmore\nEND", "3 parts"),
        ("\n%%\na dog\nEND", "is empty"),
        ("make it a dog\n%%\n\nEND", "is empty"),
        ("do nothing\n%%\nA cat, on a sofa!\nEND", "is the caption"),
        ("什么都不改\n%%\na cat on a sofa。\nEND", "is the caption"),
        ("x" * 2001 + "\n%%\na dog\nEND", "2001 characters"),
    ],
)
def test_an_answer_that_is_no_edit_is_refused(answer: str, says: str) -> None:
    with pytest.raises(RewritingFailed, match=says):
        parse(answer, "a cat on a sofa")


def test_the_grammar_depends_on_seed_and_id_alone() -> None:
    grammar = Grammar(7, ("english", "chinese"))
    once = [grammar.rewrite(caption(f"row-{i}"), 5) for i in range(20)]
    again = Grammar(7, ("english", "chinese"))
    assert [again.rewrite(caption(f"row-{i}"), 5) for i in reversed(range(20))] == once[::-1]
    assert Grammar(8, ("english", "chinese")).rewrite(caption("row-0"), 5) != once[0]
    for found in once:
        assert len({one.kind for one in found}) == 5
    said = [one.instruction for found in once for one in found]
    assert any(text.isascii() for text in said) and any(not text.isascii() for text in said)


def test_each_language_and_kind_can_be_asked_for() -> None:
    english = Grammar(1, ("english",), ("night", "fog"))
    found = [one for i in range(10) for one in english.rewrite(caption(f"{i}"), 4)]
    assert {one.kind for one in found} == {"night", "fog"}
    assert {one.name for one in found} == {"night", "fog", "night-2", "fog-2"}
    assert all(one.instruction.isascii() for one in found)
    (one,) = english.rewrite(caption("a", None, "sepia"), 1)
    assert (one.kind, one.edited_text) == ("sepia", None)


def test_the_grammar_never_says_what_training_holds_out() -> None:
    held = {text for slot in "anv" for text in phrases("chinese", "night", slot, "held_out")}
    heard = {text for slot in "anv" for text in phrases("chinese", "night", slot, "train")}
    grammar = Grammar(1, ("chinese",), ("night",))
    texts = [grammar.rewrite(caption(f"{i}"), 1)[0] for i in range(300)]
    edited = {(one.edited_text or "").removeprefix("a cat on a sofa, ") for one in texts}
    english = phrases("english", "night", "a", "train")
    assert held and heard and edited <= set(english) and len(edited) > 3
