"""What a language model answered, kept in the output: it is asked once for each caption."""

from __future__ import annotations

import hashlib
import io
import json
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from batch_jobs.records import from_table, to_table
from engine.errors import RequestError, RewritingFailed
from storage.storage import Storage
from triplet_jobs.captions import Caption
from triplet_jobs.rewriting import Found, Rewriting

FOLDER = "rewrites"  # of the output: the parts with the answers


@dataclass(frozen=True, slots=True)
class KeptRewriting:
    """Holds what was answered for a caption: one of its edits, or why it has none."""

    key: str  # see `KeptRewrites`
    name: str
    instruction: str | None = None
    edited_text: str | None = None
    error: str | None = None

    @classmethod
    def all_of(cls, key: str, found: Found) -> list[KeptRewriting]:
        """List the records of a caption."""
        if isinstance(found, RequestError):
            return [cls(key, "", error=found.message)]
        return [cls(key, one.name, one.instruction, one.edited_text) for one in found]


@dataclass(slots=True)
class KeptRewrites:
    """Keeps the answers."""

    storage: Storage
    recipe: str  # all that an answer depends on beside caption and id
    again: bool = False  # captions that failed are asked again
    _pending: list[KeptRewriting] = field(default_factory=list)
    _found: dict[str, Found] | None = None

    def key(self, caption: Caption) -> str:
        """Name the answers for a caption."""
        said = json.dumps([caption.id, caption.text, self.recipe])
        return hashlib.sha256(said.encode()).hexdigest()[:32]

    def find(self, caption: Caption) -> Found | None:
        """Find the answers for a caption, None where it was not asked."""
        return self._known.get(self.key(caption))

    def add(self, records: Iterable[KeptRewriting]) -> int:
        """Take answers; returns how many records wait to be written."""
        taken = list(records)
        self._known.update(_by_key(taken))
        self._pending += taken
        return len(self._pending)

    def flush(self) -> None:
        """Write what was taken: all of it is there afterwards."""
        if not self._pending:
            return
        buffer = io.BytesIO()
        pq.write_table(to_table(KeptRewriting, self._pending), buffer, compression="zstd")
        name = f"{FOLDER}/{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.parquet"
        self.storage.publish(name, buffer.getvalue())
        self._pending.clear()

    @property
    def _known(self) -> dict[str, Found]:
        if self._found is None:
            self._found = self._read()
        return self._found

    def _read(self) -> dict[str, Found]:
        """Read all parts, the newest answer for a caption last."""
        known: dict[str, Found] = {}
        for path in self.storage.list(FOLDER, ".parquet"):
            table = pq.read_table(pa.BufferReader(self.storage.read(path)))
            known |= _by_key(from_table(KeptRewriting, table))
        if not self.again:
            return known
        return {key: found for key, found in known.items() if isinstance(found, list)}


def _by_key(records: Iterable[KeptRewriting]) -> dict[str, Found]:
    answers: dict[str, list[KeptRewriting]] = {}
    for one in records:
        answers.setdefault(one.key, []).append(one)
    return {key: _found_in(kept) for key, kept in answers.items()}


def _found_in(answers: list[KeptRewriting]) -> Found:
    if answers[0].error is not None:
        return RewritingFailed(answers[0].error)
    return [Rewriting(one.name, one.instruction or "", one.edited_text) for one in answers]
