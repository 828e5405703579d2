"""Requests whose instruction is translated before they join the batch: one that fails fails alone.

For a model that reads the script of an instruction nothing is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Lock
from typing import Protocol

from engine.chat_translator import ChatTranslator
from engine.config import EngineConfig
from engine.edit import EditFailure, EditRequest
from engine.errors import Cancelled
from engine.spec import ModelSpec
from engine.styles import INSTRUCTION, own_instruction
from engine.text import clean_instruction, unknown_scripts

THREADS = 16  # texts on their way at once: a server answers in a second or so

Arrive = Callable[[EditRequest | EditFailure], None]


class Translator(Protocol):
    """Says in English what an instruction asks for."""

    waits: bool  # for others, so that it is no work for the model's thread

    def translate(self, text: str) -> str:
        """Return the instruction in English; raises `EngineError` where it cannot be."""


class Translation:
    """Has the instructions of an actor's requests translated, in its thread or beside it."""

    def __init__(self, translator: Translator | None, spec: ModelSpec, arrive: Arrive) -> None:
        """`arrive` is called of any thread with each request that is translated, or its failure;
        without a translator every request stays as it is."""
        self._translator, self._spec, self._arrive = translator, spec, arrive
        waits = translator is not None and translator.waits
        self._pool = ThreadPoolExecutor(THREADS, "translate") if waits else None
        self._pending: set[str] = set()
        self._lock = Lock()

    def takes(self, request: EditRequest) -> bool:
        """Begin to translate a request in a script that the model does not know; False else."""
        if self._translator is None or request.is_translated:
            return False
        if not unknown_scripts(request.instruction, self._spec.scripts):
            return False
        with self._lock:
            self._pending.add(request.id)
        if self._pool is None:
            self._translate(self._translator, request)
        else:
            self._pool.submit(self._translate, self._translator, request)
        return True

    def cancel(self, ids: Collection[str]) -> list[EditFailure]:
        """Drop these requests, where they are here."""
        with self._lock:
            gone = self._pending.intersection(ids)
            self._pending -= gone
        cancelled = Cancelled("the edit was cancelled by its caller")
        return [EditFailure.of(id, cancelled) for id in gone]

    def close(self) -> None:
        """Begin nothing more, and hand over nothing."""
        with self._lock:
            self._pending.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _translate(self, translator: Translator, request: EditRequest) -> None:
        start_s = time.monotonic()
        outcome: EditRequest | EditFailure
        try:
            text = _translated(translator, request)
        except Exception as error:  # whatever is wrong with one text stays with its request
            outcome = EditFailure.of(request.id, error)
        else:
            left_s = request.timeout_s
            if left_s is not None:
                left_s = max(left_s - (time.monotonic() - start_s), 0.0)
            outcome = replace(request, instruction=text, is_translated=True, timeout_s=left_s)
        with self._lock:
            is_wanted = request.id in self._pending
            self._pending.discard(request.id)
        if is_wanted:
            self._arrive(outcome)


def _translated(translator: Translator, request: EditRequest) -> str:
    """Translate what an edit says itself, and leave the template of its LoRA as it is."""
    template = INSTRUCTION if request.adapter is None else request.adapter.template
    own = own_instruction(request.instruction, template)
    if not own:  # the style is the whole instruction
        return translator.translate(request.instruction)
    return clean_instruction(template.replace(INSTRUCTION, translator.translate(own)))


def make_translator(config: EngineConfig, spec: ModelSpec) -> Translator | None:
    """Make what `config.translate` names; None for "off".

    Raises `ModelError` where pocket's text encoder cannot be loaded.
    """
    if config.translate == "off":
        return None
    if config.translate == "phrases":
        from engine.phrases import PhraseTranslator

        return PhraseTranslator()
    return ChatTranslator(config.translate, config.translate_model, spec.scripts)
