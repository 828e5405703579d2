"""Attempts: the answers of a language model become the edits of a caption, in three tries each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from engine.errors import RewritingFailed
from engine.seeding import row_seed
from triplet_jobs.rewriting import TRIES, Found, Rewriting, parse


@dataclass(slots=True)
class Attempts:
    """Collects the edits of one caption; each is another one."""

    id: str  # of the caption
    text: str
    count: int  # of edits
    seed: int  # of the job
    edits: list[Rewriting] = field(default_factory=list)
    failure: RewritingFailed | None = None  # where there are none
    _tries: int = 0  # at the edit that is next

    @classmethod
    def at(cls, id: str, text: str | None, count: int, seed: int) -> Self:
        """Begin; a row without a caption has failed."""
        begun = cls(id, text or "", count, seed)
        if text is None:
            begun.failure = RewritingFailed(
                "the row has no caption for a language model to rewrite"
            )
        return begun

    @property
    def is_open(self) -> bool:
        """Tell whether one more answer is wanted."""
        return self.failure is None and len(self.edits) < self.count

    @property
    def next_seed(self) -> int:
        """Return what the next answer is sampled with."""
        return row_seed(self.seed, f"{self.id}/{len(self.edits)}/{self._tries}")

    @property
    def found(self) -> Found:
        """Return the edits, or why there are none."""
        return self.failure or self.edits

    def take(self, answer: str) -> None:
        """Take an answer: an edit that is not there yet, or one try less."""
        try:
            instruction, edited = parse(answer, self.text)
            if any(instruction == one.instruction for one in self.edits):
                raise RewritingFailed(
                    f"the instruction is one that the caption has already: {instruction[:80]!r}"
                )
        except RewritingFailed as error:
            self._tries += 1
            if self._tries == TRIES:
                self.failure = RewritingFailed(
                    f"{TRIES} answers were no edits of the caption; of the last {error.message}"
                )
            return
        self.edits.append(Rewriting(str(len(self.edits)), instruction, edited))
        self._tries = 0
