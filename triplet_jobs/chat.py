"""A rewriter behind an OpenAI-compatible server: any language model, asked as the reference was."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError

from engine.chat import chat_address, complete_chat, content_of
from engine.errors import NotReady, OptionInvalid, RewritingFailed
from engine.seeding import row_seed
from triplet_jobs.captions import Caption
from triplet_jobs.rewriting import AFTER_CAPTION, BETWEEN, END, TRIES, Rewriting, parse

KEY = "OPENAI_API_KEY"  # environment: sent as a bearer token where it is set
TIMEOUT_S = 120.0
PAUSES_S = (1.0, 2.0, 4.0, 8.0)  # before a server that is busy or away is asked again
BUSY = (408, 425, 429, 500, 502, 503, 504)
# InstructPix2Pix's own (its dataset_creation/generate_txt_dataset.py).
SAMPLING = {"temperature": 0.7, "max_tokens": 256, "frequency_penalty": 0.1}
SYSTEM = f"""\
You write edits of pictures. For the caption of a picture answer with an instruction that edits \
it, a line {BETWEEN.strip()}, the caption of the edited picture, and a line {END.strip()}; nothing \
else. The instruction is short, as people write to an image editor; the edited caption says all \
that the caption says but what the instruction changes. Both are in the language of the caption."""
EXAMPLES = (
    (
        "a girl riding a horse by a cliff",
        "have her ride a dragon",
        "a girl riding a dragon by a cliff",
    ),
    ("湖边的一座木屋，秋天的树林", "改成冬天", "湖边的一座木屋，冬天被雪覆盖的树林"),
    ("portrait of a man in a suit", "make it a marble statue", "marble statue of a man in a suit"),
)
RECIPE = hashlib.sha256(f"{SYSTEM}{EXAMPLES}{SAMPLING}".encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class ChatRewriter:
    """Asks `POST URL/chat/completions`, at most three times for each edit."""

    url: str  # such as http://localhost:8000/v1
    model: str | None
    seed: int

    def rewrite(self, caption: Caption, count: int) -> list[Rewriting]:
        """See `Rewriter`; raises `OptionInvalid` where the server refuses, `NotReady` where it does
        not answer."""
        if caption.text is None:
            raise RewritingFailed("the row has no caption, which a server would rewrite")
        found: list[Rewriting] = []
        for number in range(count):
            seen = {one.instruction for one in found}
            instruction, edited = self._one(caption.id, caption.text, number, seen)
            found.append(Rewriting(str(number), instruction, edited))
        return found

    def _one(self, id: str, text: str, number: int, seen: set[str]) -> tuple[str, str]:
        """Ask until an answer is an edit that was not `seen`."""
        reason = ""
        for attempt in range(TRIES):
            answer = self._ask(text, row_seed(self.seed, f"{id}/{number}/{attempt}"))
            try:
                edit = parse(answer, text)
            except RewritingFailed as error:
                reason = error.message
                continue
            if edit[0] not in seen:
                return edit
            reason = f"the instruction is one that the caption has already: {edit[0][:80]!r}"
        raise RewritingFailed(f"{TRIES} answers were no edits of the caption; of the last {reason}")

    def _ask(self, text: str, seed: int) -> str:
        body = {
            "messages": [{"role": "system", "content": SYSTEM}, *_shots(), _user(text)],
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


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": f"{text}{AFTER_CAPTION}"}


def _shots() -> list[dict[str, str]]:
    return [
        message
        for caption, instruction, edited in EXAMPLES
        for message in (
            _user(caption),
            {"role": "assistant", "content": f"{instruction}{BETWEEN}{edited}{END}"},
        )
    ]
