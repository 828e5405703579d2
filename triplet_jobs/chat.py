"""A rewriter behind an OpenAI-compatible server: any language model, asked as the reference was."""

from __future__ import annotations

import time
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError

from engine.chat import chat_address, complete_chat, content_of
from engine.errors import NotReady, OptionInvalid
from triplet_jobs.attempts import Attempts
from triplet_jobs.captions import Caption
from triplet_jobs.prompt import SAMPLING, chat_of
from triplet_jobs.rewriting import END, Rewriting

KEY = "OPENAI_API_KEY"  # environment: sent as a bearer token where it is set
TIMEOUT_S = 120.0
PAUSES_S = (1.0, 2.0, 4.0, 8.0)  # before a server that is busy or away is asked again
BUSY = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class ChatRewriter:
    """Asks `POST URL/chat/completions`, at most three times for each edit."""

    url: str  # such as http://localhost:8000/v1
    model: str | None
    seed: int

    def rewrite(self, caption: Caption, count: int) -> list[Rewriting]:
        """See `Rewriter`; raises `OptionInvalid` where the server refuses, `NotReady` where it does
        not answer."""
        attempts = Attempts.at(caption.id, caption.text, count, self.seed)
        while attempts.is_open:
            attempts.take(self._ask(attempts.text, attempts.next_seed))
        if attempts.failure is not None:
            raise attempts.failure
        return attempts.edits

    def _ask(self, text: str, seed: int) -> str:
        body = {
            "messages": chat_of(text),
            "stop": [END],
            "seed": seed,
            **SAMPLING,
        }
        answer = self._post(body if self.model is None else {"model": self.model, **body})
        try:
            return content_of(answer)
        except (KeyError, IndexError, TypeError):
            raise OptionInvalid(
                f"{self.url} answers no chat completion: {str(answer)[:200]}", param="rewriter"
            ) from None

    def _post(self, body: dict[str, Any]) -> Any:
        address = chat_address(self.url)
        reason: object = ""
        for pause_s in (*PAUSES_S, None):
            try:
                return complete_chat(address, body, key_variable=KEY, timeout_s=TIMEOUT_S)
            except HTTPError as error:
                if error.code not in BUSY:
                    raise OptionInvalid(_refusal(address, error), param="rewriter") from None
                reason = f"HTTP {error.code}"
            except (OSError, HTTPException, ValueError) as error:
                reason = error
            if pause_s is not None:
                time.sleep(pause_s)
        raise NotReady(
            f"{address} does not answer: {reason}; what it answered is kept, run it again to go on"
        )


def _refusal(address: str, error: HTTPError) -> str:
    said = error.read(500).decode("utf-8", "replace").strip()
    return f"{address} refuses with {error.code}: {said or error.reason}"
