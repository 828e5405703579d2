"""The crash journal: what was in flight when a worker died, so that its culprit is found.

Before a worker runs a block it opens an entry, and removes it afterwards. A retried block that
finds open entries was in flight at a death: now its rows run alone. A row is convicted after two
deaths in which it ran alone, so a worker that was killed from outside convicts nobody.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from batch_jobs.storage import Storage
from engine.errors import WorkerCrashed

FOLDER = "journal"
DEATHS_TO_CONVICT = 2
DEATHS_TO_GIVE_UP = 5  # in a row, without one row that survived: not the rows are to blame


@dataclass(slots=True)
class BlockJournal:
    """The entries of one block, oldest first: the id that ran alone (None: all of them together),
    and whether it survived."""

    storage: Storage
    key: str
    entries: list[tuple[str | None, bool]] = field(default_factory=list)

    @classmethod
    def read(cls, storage: Storage, ids: Sequence[str]) -> BlockJournal:
        """What earlier runs of the block with these ids left open.

        Raises `WorkerCrashed` after five deaths in a row: the worker itself cannot run.
        """
        key = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]
        paths = [path for path in storage.list(FOLDER, ".json") if f"/{key}-" in path]
        journal = cls(storage, key, [tuple(json.loads(storage.read(path))) for path in paths])
        if journal.deaths_in_a_row >= DEATHS_TO_GIVE_UP:
            raise WorkerCrashed(
                f"{DEATHS_TO_GIVE_UP} workers died one after the other on the rows "
                f"{', '.join(ids[:3])}...: see their logs"
            )
        return journal

    @property
    def deaths_in_a_row(self) -> int:
        survivals = [i for i, (_, survived) in enumerate(self.entries) if survived]
        return len(self.entries) - (survivals[-1] + 1 if survivals else 0)

    @property
    def suspected(self) -> bool:
        """Whether a worker died on this block."""
        return bool(self.entries)

    @property
    def convicted(self) -> set[str]:
        """Rows that died alone twice."""
        deaths = Counter(id for id, survived in self.entries if id is not None and not survived)
        return {id for id, count in deaths.items() if count >= DEATHS_TO_CONVICT}

    @property
    def cleared(self) -> set[str]:
        """Rows that survived alone."""
        return {id for id, survived in self.entries if id is not None and survived}

    def died_alone(self, id: str) -> bool:
        return (id, False) in self.entries

    def open(self, id: str | None = None) -> None:
        """Note that a row runs alone now, or (None) the whole block."""
        self.entries.append((id, False))
        self._write()

    def survived(self) -> None:
        """Note that the last entry came to its end."""
        self.entries[-1] = (self.entries[-1][0], True)
        self._write()

    def close(self) -> None:
        """The block is done: forget it."""
        for number in range(len(self.entries)):
            self.storage.remove(self._path(number))

    def _write(self) -> None:
        number = len(self.entries) - 1
        self.storage.publish(self._path(number), json.dumps(self.entries[number]).encode())

    def _path(self, number: int) -> str:
        return f"{FOLDER}/{self.key}-{number:04d}.json"
