"""An instruction that nobody can see is none; what belongs to a word or a sign stays."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import errors
from engine.text import clean_instruction

# Spaces, controls and formats, by Unicode's categories; fillers and selectors, which have others.
UNSEEN = st.one_of(
    st.characters(categories=("Zs", "Zl", "Zp", "Cc")),
    st.sampled_from("\u00ad\u034f\u200b\u200c\u200d\u200e\u2060\u2800\u3164\ufe0f\ufeff\U000e0041"),
)


@pytest.mark.parametrize("text", ["\u200b", "\ufeff", "\u200d", "\u3164", "\u200d \ufe0f\u00ad"])
def test_an_instruction_of_unseen_characters_is_empty(text: str) -> None:
    with pytest.raises(errors.InstructionEmpty, match="instruction is empty; say what to do"):
        clean_instruction(text)


@given(st.text(UNSEEN, max_size=20))
def test_no_row_of_unseen_characters_is_an_instruction(text: str) -> None:
    with pytest.raises(errors.InstructionEmpty):
        clean_instruction(text)


@given(st.text(UNSEEN, max_size=5), st.text(UNSEEN, max_size=5))
def test_what_can_be_seen_among_them_is_an_instruction(before: str, after: str) -> None:
    seen = [c for c in clean_instruction(f"{before}夜{after}") if unicodedata.category(c) == "Lo"]
    assert "夜" in seen


def test_marks_at_the_ends_go_and_joiners_within_stay() -> None:
    assert clean_instruction("\ufeffmake it night\u200b\n") == "make it night"
    for text in ("add 👨\u200d👩\u200d👧", "می\u200cخواهم", "a red ❤\ufe0f"):
        assert clean_instruction(text) == text
