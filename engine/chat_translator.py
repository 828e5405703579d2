"""A translator behind an OpenAI-compatible server, such as vLLM or Ollama on the cluster."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from http.client import HTTPException
from threading import Lock
from urllib.error import HTTPError

from engine.chat import chat_address, complete_chat, content_of
from engine.errors import EngineError, TranslationFailed
from engine.text import clean_instruction, unknown_scripts

TIMEOUT_S = 30.0  # of one answer
KEY_VARIABLE = "RAYEDIT_TRANSLATE_API_KEY"  # of the environment: a secret is in no file
KEPT_TEXTS = 10_000
MAX_ANSWER_BYTES = 2**16
_TASK = (
    "Translate the instruction for editing a photograph that follows into English. Answer with the "
    "translation alone, in one line; keep names and numbers as they are."
)


class ChatTranslator:
    """Asks a server, once for each text: a `translation.Translator` that threads may share."""

    waits = True

    def __init__(self, url: str, model: str, known: Sequence[str]) -> None:
        """`url`: up to the version, such as http://host:8000/v1; `known`: scripts of an answer."""
        self._address = chat_address(url)
        self._model, self._known = model, known
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._lock = Lock()

    def translate(self, text: str) -> str:
        """Return the text in English; raises `TranslationFailed`."""
        with self._lock:
            if text in self._kept:
                self._kept.move_to_end(text)
                return self._kept[text]
        translated = self._checked(self._ask(text))
        with self._lock:
            self._kept[text] = translated
            if len(self._kept) > KEPT_TEXTS:
                self._kept.popitem(last=False)
        return translated

    def _ask(self, text: str) -> str:
        messages = [{"role": "system", "content": _TASK}, {"role": "user", "content": text}]
        body = {"model": self._model, "messages": messages, "temperature": 0, "seed": 0}
        try:
            answer = complete_chat(
                self._address,
                body,
                key_variable=KEY_VARIABLE,
                timeout_s=TIMEOUT_S,
                most_bytes=MAX_ANSWER_BYTES,
            )
            return content_of(answer)
        except HTTPError as error:
            raise self._failed(f"answered {error.code} {error.reason}") from None
        except (OSError, HTTPException) as error:
            raise self._failed(f"did not answer: {error}") from None
        except (ValueError, LookupError, TypeError):
            raise self._failed("answered with no chat completion") from None

    def _checked(self, answer: str) -> str:
        try:
            translated = clean_instruction(" ".join(answer.split()))
        except EngineError as error:
            raise self._failed(f"gave no instruction: {error.message}") from None
        if unknown_scripts(translated, self._known):
            raise self._failed("gave an instruction in a script that the model does not know")
        return translated

    def _failed(self, what: str) -> TranslationFailed:
        return TranslationFailed(f"the translator {what}")
