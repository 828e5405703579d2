"""A foreign instruction is translated for a model that reads none; one that fails fails alone."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from engine import EditActor, EditOptions, EditRequest, EditResult, EngineConfig
from engine.adapter import Adapter
from engine.chat_translator import KEY_VARIABLE, ChatTranslator
from engine.config import load_config
from engine.edit import EditFailure
from engine.errors import InstructionLanguage, OptionInvalid, TranslationFailed
from engine.phrases import PhraseTranslator
from engine.registry import find_model
from engine.translation import Translation
from tests.batch_jobs.editors import dry
from tests.translator import REDIRECTED, Translator, translator

__all__ = ["translator"]

ENGLISH = replace(find_model("pocket", resolution=64), scripts=("LATIN",))


def asked(text: str, id: str = "") -> EditRequest:
    options = ENGLISH.resolve(EditOptions(num_inference_steps=1, detail="model"), seed=7)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    return EditRequest(id or text, pixels, text, options)


def test_a_batch_is_translated_where_it_must_be_and_a_text_that_fails_fails_alone(
    translator: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    config = EngineConfig(translate=translator.url, num_threads=1, determinism="strict")
    texts = ("make it night", "变成夜晚", "别的", "add fog")
    with EditActor(config, ENGLISH) as actor:
        english, translated, failed, fog = actor.edit_batch([asked(text) for text in texts])
        (again,) = actor.edit_batch([asked("变成夜晚", "again")])
    assert isinstance(english, EditResult) and english.instruction_used is None
    assert isinstance(translated, EditResult)
    assert translated.instruction_used == "make it night"
    assert np.array_equal(translated.images[0], english.images[0])
    assert translated.warnings == ()
    assert isinstance(failed, EditFailure)
    assert (failed.code, failed.retryable) == ("translation_failed", True)
    assert "127.0.0.1" not in failed.message  # a client reads it
    assert isinstance(fog, EditResult) and isinstance(again, EditResult)
    assert sorted(translator.asked) == [("别的", "Bearer secret"), ("变成夜晚", "Bearer secret")]


def test_without_a_translator_it_is_a_warning_as_it_was() -> None:
    with EditActor(EngineConfig(num_threads=1), ENGLISH) as actor:
        (outcome,) = actor.edit_batch([asked("变成夜晚")])
    assert isinstance(outcome, EditResult)
    assert outcome.instruction_used is None and outcome.warnings == ("language_unsupported",)


@pytest.mark.parametrize(("text", "what"), [("不要翻译", "gave"), ("空", "gave"), ("?", "500")])
def test_an_answer_that_is_no_instruction_for_the_model_is_none(
    translator: Translator, text: str, what: str
) -> None:
    with pytest.raises(TranslationFailed, match=what):
        ChatTranslator(translator.url, "m", ("LATIN",)).translate(text)


def test_the_key_goes_to_no_other_address(
    translator: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    with pytest.raises(TranslationFailed, match="answered 302"):
        ChatTranslator(translator.url, "m", ("LATIN",)).translate(REDIRECTED)
    assert translator.asked == [(REDIRECTED, "Bearer secret")]


def test_a_server_that_is_not_there_is_said() -> None:
    with pytest.raises(TranslationFailed, match="did not answer"):
        ChatTranslator("http://127.0.0.1:9/v1", "m", ("LATIN",)).translate("变成夜晚")


def test_a_style_keeps_its_template_around_what_is_translated(translator: Translator) -> None:
    arrived: list[EditRequest | EditFailure] = []
    here = threading.Event()

    def arrive(outcome: EditRequest | EditFailure) -> None:
        arrived.append(outcome)
        here.set()

    chat = ChatTranslator(translator.url, "m", ("LATIN",))
    translation = Translation(chat, ENGLISH, arrive)
    adapter = Adapter("ink", "", "", template="{instruction}, ink")
    assert translation.takes(replace(asked("变成夜晚, ink"), adapter=adapter))
    assert here.wait(10)
    (request,) = arrived
    assert isinstance(request, EditRequest) and request.instruction == "make it night, ink"
    assert not translation.takes(request)
    assert [text for text, _ in translator.asked] == ["变成夜晚"]
    translation.close()


class Held:
    """A translator that does not answer before it is let."""

    waits = True

    def __init__(self) -> None:
        self.let = threading.Event()

    def translate(self, text: str) -> str:
        assert self.let.wait(10)
        return "make it night"


def test_an_edit_can_be_cancelled_and_a_worker_closed_while_it_is_translated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = Held()
    monkeypatch.setattr("engine.actor.make_translator", lambda *_: held)
    with EditActor(EngineConfig(num_threads=1), dry(ENGLISH)) as actor:
        cancelled, closed = actor.submit([asked("变成夜晚", "a"), asked("变成夜晚", "b")])
        actor.cancel("a")
        outcome = cancelled.result(10)
        assert isinstance(outcome, EditFailure) and outcome.code == "cancelled"
    outcome = closed.result(10)
    assert isinstance(outcome, EditFailure) and outcome.code == "not_ready"
    held.let.set()


def test_phrases_know_what_pocket_can_do_and_refuse_the_rest() -> None:
    phrases = PhraseTranslator()
    assert phrases.translate("变成夜晚") == "make it night"
    assert phrases.translate("把天空变成粉色") == "make the sky pink"
    assert phrases.translate("帮我把这张照片弄成黑白的好吗") == "make it black and white"
    for other in ("把衬衫换成红色的西装", "给他戴一顶帽子", "去掉水印"):
        with pytest.raises(InstructionLanguage, match="no phrase"):
            phrases.translate(other)


def test_a_translator_is_off_phrases_or_a_url() -> None:
    with pytest.raises(OptionInvalid, match="translate: must be off, phrases, or a URL"):
        load_config(None, EngineConfig, translate="ftp://host")
    with pytest.raises(OptionInvalid, match="RAYEDIT_TRANSLATE_API_KEY"):
        load_config(None, EngineConfig, translate="https://me:secret@host/v1")
