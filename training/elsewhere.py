"""Requests for edits that pocket was never taught: what its warning learns from.

`phrasings/elsewhere.txt` holds templates, the words that go into them and whole requests, in both
languages; `phrasings/beyond.txt` other ones, for evaluation alone.
"""

from __future__ import annotations

import re
from functools import cache

import numpy as np

from training.phrase_book import LANGUAGES, PhraseBook, cut, sections

PLAIN_SHARE = 0.35  # of the requests that are drawn: whole ones
SLOTS = {"t": "things", "o": "objects", "s": "styles", "w": "words", "c": "colours", "b": "bare"}
_SLOT = re.compile(r"\{(\w)\}")


@cache
def listed(language: str, title: str) -> tuple[str, ...]:
    """The items of one list of `elsewhere.txt`."""
    return tuple(cut(sections("elsewhere")[f"{language} {title}"]))


@cache
def beyond(language: str) -> tuple[str, ...]:
    """Hand-written requests that pocket cannot do, and that no training ever sees."""
    lines = [line for text in sections("beyond").values() for line in text.splitlines()]
    mine = (line.removeprefix(f"{language}:") for line in lines if line.startswith(language))
    return tuple(item for line in mine for item in cut(line))


class Elsewhere:
    """Draws requests that pocket cannot do, dressed as those that it can."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.book = PhraseBook(seed, "all")

    def pick(self, items: tuple[str, ...]) -> str:
        """One of several, all alike likely."""
        return items[self.random.integers(len(items))]

    def draw(self, language: str = "") -> str:
        """One request."""
        language = language or self.pick(LANGUAGES)
        plain = self.random.random() < PLAIN_SHARE
        text = self.pick(listed(language, "plain" if plain else "verbs"))
        text = _SLOT.sub(lambda slot: self.pick(listed(language, SLOTS[slot[1]])), text)
        return self.book.dress(language, text)
