"""Rewriting: a caption -> an instruction, and the caption of the picture after it."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Protocol

from engine.errors import EngineError, RequestError, RewritingFailed
from engine.text import clean_instruction
from triplet_jobs.captions import Caption

# InstructPix2Pix's text stage (dataset_creation/ of its repository): caption + AFTER_CAPTION ->
# instruction + BETWEEN + edited caption + END.
AFTER_CAPTION, BETWEEN, END = "\n##\n", "\n%%\n", "\nEND"
TRIES = 3
GIVEN = "given"  # the name of an edit that a caption brings itself
_MARKS = string.punctuation + "。！？，、；："


@dataclass(frozen=True, slots=True)
class Rewriting:
    """Holds one edit of a caption."""

    name: str  # which tells it from the others of its caption
    instruction: str
    edited_text: str | None = None  # None where there is no caption
    kind: str | None = None  # of edit, where it is one of ours


Found = list[Rewriting] | RequestError  # the edits of a caption, or why there are none


class Rewriter(Protocol):
    """Makes edits of captions."""

    def rewrite(self, caption: Caption, count: int) -> list[Rewriting]:
        """Make `count` of them, each another one; raises `RewritingFailed`."""
        ...


def parse(answer: str, caption: str) -> tuple[str, str]:
    """Read instruction and edited caption from what a language model wrote.

    Raises `RewritingFailed` where it is not two parts, one is empty or too long, or the edited
    caption is the caption: as the reference does, punctuation and case do not count.
    """
    parts = [part.strip() for part in answer.partition(END)[0].split(BETWEEN.strip())]
    if len(parts) != 2:
        raise RewritingFailed(
            f"the answer has {len(parts)} parts, not an instruction and a caption between which "
            f"a line says {BETWEEN.strip()}: {answer[:80]!r}"
        )
    try:
        instruction, edited = (clean_instruction(part) for part in parts)
    except EngineError as error:
        raise RewritingFailed(f"in the answer, {error.message}") from None
    if _plain(edited) == _plain(caption):
        raise RewritingFailed(f"the edited caption is the caption: {edited[:80]!r}")
    return instruction, edited


def _plain(text: str) -> str:
    """Spell a text without what does not count."""
    kept = text.casefold().translate(str.maketrans("", "", _MARKS))
    return " ".join(kept.split())
