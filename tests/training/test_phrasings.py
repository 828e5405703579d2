"""Phrasings cover every kind in both languages, and nothing held out is trained on."""

from __future__ import annotations

import pytest
import torch
from transformers import CLIPTokenizer

from training.codes import POSITIONS, code_table, kind_code
from training.further_kinds import FURTHER
from training.phrase_book import (
    LANGUAGES,
    SLOTS,
    PhraseBook,
    every_kind,
    family_of,
    free_requests,
    phrases,
    templates,
)
from training.text_tokenizer import make_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    book = PhraseBook(0)
    english = [book.draw(kind, "english") for kind in every_kind() for _ in range(20)]
    chinese = [book.draw(kind, "chinese") for kind in every_kind() for _ in range(5)]
    return make_tokenizer(english, chinese)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", [*every_kind(), *FURTHER])
def test_every_kind_has_phrasings_on_both_sides_of_the_split(kind: str, language: str) -> None:
    for part in ("train", "held_out"):
        book = PhraseBook(1, part)
        drawn = {book.draw(kind, language) for _ in range(30)}
        assert len(drawn) > 5
        assert all(text.strip() and "{" not in text for text in drawn)
    assert free_requests(language, kind)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_phrase_and_no_template_is_on_both_sides(language: str) -> None:
    for slot in SLOTS:
        for kind in every_kind():
            family = family_of(kind)[0]
            train = phrases(language, family, slot, "train")
            assert not set(train) & set(phrases(language, family, slot, "held_out"))
        held = templates(language, slot, "held_out")
        assert held
        assert not set(held) & set(templates(language, slot, "train"))


@pytest.mark.parametrize("kind", FURTHER)
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_free_request_for_a_further_kind_is_one_of_its_phrases(kind: str, language: str) -> None:
    said = {
        text.replace("{it}", "") for slot in SLOTS for text in phrases(language, kind, slot, "all")
    }
    assert not said & set(free_requests(language, kind))
    for slot in SLOTS:
        held = phrases(language, kind, slot, "held_out")
        assert held and not set(held) & set(phrases(language, kind, slot, "train"))


def test_the_book_is_a_function_of_its_seed() -> None:
    first, second, other = PhraseBook(3), PhraseBook(3), PhraseBook(4)
    one = [first.draw(kind) for kind in every_kind()]
    assert one == [second.draw(kind) for kind in every_kind()]
    assert one != [other.draw(kind) for kind in every_kind()]


def test_forty_chinese_characters_fit(tokenizer: CLIPTokenizer) -> None:
    text = "请把这张照片变成夜晚的样子并且加上一层薄雾让它看起来更加安静一些但是不要改变人物谢谢"
    assert len(text) >= 40
    ids = tokenizer(text).input_ids
    assert len(ids) == len(text) + 2 <= POSITIONS
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text


def test_any_bytes_can_be_read(tokenizer: CLIPTokenizer) -> None:
    for text in ("", "龘靐", "café", "🎨 make it red", "ÇÉ"):
        assert tokenizer.unk_token_id not in tokenizer(text).input_ids[1:-1]


def test_codes_tell_every_kind_from_every_other() -> None:
    table = torch.nn.functional.normalize(code_table(every_kind()), dim=-1)
    alike = table @ table.T - torch.eye(len(table))
    assert alike.max() < 0.85
    assert not kind_code(()).any()
