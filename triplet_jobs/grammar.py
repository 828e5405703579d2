"""The grammar: instructions for the kinds of edit that pocket was trained on, in two languages."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from engine.errors import OptionError, RewritingFailed
from engine.seeding import row_seed
from triplet_jobs.arithmetic import all_kinds, check_kind, training
from triplet_jobs.captions import Caption
from triplet_jobs.config import Language
from triplet_jobs.rewriting import Rewriting

_CHINESE = re.compile("[\u3400-\u9fff]")
_JOINED: dict[Language, str] = {"english": "{}, {}", "chinese": "{}，{}"}


class Grammar:
    """Draws a kind, a phrasing of it, and for a caption its ending: from the seed and the row's id
    alone. It never says what training holds out."""

    def __init__(self, seed: int, languages: Sequence[Language], kinds: Sequence[str] = ()) -> None:
        """`kinds`: those that are drawn, default all; raises `OptionInvalid` for one unknown."""
        for name in kinds:
            check_kind(name)
        self._seed, self._languages = seed, languages
        self._kinds = list(kinds)  # none: all of them

    def rewrite(self, caption: Caption, count: int) -> list[Rewriting]:
        """See `Rewriter`. Kinds repeat where there are fewer than `count`, in other words."""
        dice = np.random.default_rng(row_seed(self._seed, f"{caption.id}/kinds"))
        kinds = [caption.kind] if caption.kind else self._kinds or all_kinds()
        try:
            check_kind(kinds[0])
        except OptionError as error:
            raise RewritingFailed(error.message, param="kind") from None
        order = [kinds[place] for place in dice.permutation(len(kinds))]
        drawn = [(order[n % len(order)], n // len(order)) for n in range(count)]
        return [self._one(caption, kind, again) for kind, again in drawn]

    def _one(self, caption: Caption, kind: str, again: int) -> Rewriting:
        name = f"{kind}-{again + 1}" if again else kind
        seed = row_seed(self._seed, f"{caption.id}/{name}")
        book = training("phrase_book").PhraseBook(seed)
        languages = self._languages
        instruction = book.draw(kind, languages[seed % len(languages)])
        edited = None if caption.text is None else _edited(book, caption.text, kind)
        return Rewriting(name, instruction, edited, kind)


def _edited(book: object, text: str, kind: str) -> str:
    """Say what a picture shows after an edit of this kind, in the language of its caption."""
    language: Language = "chinese" if _CHINESE.search(text) else "english"
    _, phrase = book.phrase(language, kind, "a")  # type: ignore[attr-defined]
    return _JOINED[language].format(text.strip().rstrip(".。"), phrase)
