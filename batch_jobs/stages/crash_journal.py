"""The crash journal: what was in flight when a worker died, so that its culprit is found.

Before a worker runs a block it opens an entry in the block's file, which goes when the block is
done. A retried block that finds its file was in flight at a death: now its rows run alone. A row
is convicted after two deaths in which it ran alone, so a worker that was killed from outside
convicts nobody; one that died alone once runs first. Where nothing ever survives, the worker is
to blame and the job ends.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from engine.errors import WorkerCrashed
from storage.storage import Storage

FOLDER = "journal"
DEATHS_TO_CONVICT = 2
CONVICTIONS_TO_GIVE_UP = 5  # without a row that survived
CONVICTED = "convicted"


@dataclass(frozen=True, slots=True)
class Journal:
    """Keeps the entries of one run of a job."""

    storage: Storage
    run: str  # begins the names of its files: workers of a run that has ended may still be dying

    def block(self, ids: Sequence[str]) -> BlockJournal:
        """Read what earlier attempts at the block with these ids left open."""
        block = BlockJournal(self.storage, ids, self.run)
        files = self.storage.list(FOLDER, ".json")
        block.verdicts = [file for file in files if file.startswith(block.verdicts_prefix)]
        if block.path in files:
            block.entries = [tuple(entry) for entry in json.loads(self.storage.read(block.path))]
        return block


@dataclass(slots=True)
class BlockJournal:
    """Keeps the entries of one block in one file, so that a death leaves all of them or none."""

    storage: Storage
    ids: Sequence[str]  # of its rows
    run: str
    # oldest first: the id that ran alone (None: all together), and whether it survived
    entries: list[tuple[str | None, bool]] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)  # files: the convicted of blocks without a
    # survivor

    @property
    def path(self) -> str:
        """Name the file of the block's entries."""
        return f"{FOLDER}/{self.run}-{_digest(*self.ids)}.json"

    def check(self) -> None:
        """Raises `WorkerCrashed` after five convictions without a row that survived, in this block
        or in those before it: the worker itself cannot run."""
        convictions = {*self.verdicts, *map(self._verdict, self.convicted)}
        if len(convictions) >= CONVICTIONS_TO_GIVE_UP and not self.cleared:
            raise WorkerCrashed(
                f"the worker died again and again, last on the rows {', '.join(self.ids[:3])}...: "
                "see its log"
            )

    @property
    def suspected(self) -> bool:
        """Tell whether a worker died on this block."""
        return bool(self.entries)

    @property
    def convicted(self) -> set[str]:
        """List the rows that died alone twice."""
        deaths = Counter(id for id, survived in self.entries if id is not None and not survived)
        return {id for id, count in deaths.items() if count >= DEATHS_TO_CONVICT}

    @property
    def cleared(self) -> set[str]:
        """List the rows that survived alone."""
        return {id for id, survived in self.entries if id is not None and survived}

    def died_alone(self, id: str) -> bool:
        """Tell whether a worker died while this row ran alone."""
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
        """Forget a block that is done, but not that nothing of it survived."""
        if self.convicted and not self.cleared:
            for id in self.convicted:
                self.storage.publish(self._verdict(id), b"")
        else:
            for path in self.verdicts:
                self.storage.remove(path)
        self.forget()

    def forget(self) -> None:
        """Remove the block's entries."""
        self.storage.remove(self.path)

    def _verdict(self, id: str) -> str:
        """Name the file that tells that a row was convicted."""
        return f"{self.verdicts_prefix}{_digest(id)}.json"

    @property
    def verdicts_prefix(self) -> str:
        """Begin the names of all verdicts of this run."""
        return f"{FOLDER}/{self.run}-{CONVICTED}-"

    def _write(self) -> None:
        self.storage.publish(self.path, json.dumps(self.entries).encode())


def _digest(*ids: str) -> str:
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]


class Gate:
    """Lets blocks pass through a worker together, and a suspected row alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Pass beside others; waits while a row passes alone."""
        with self._changed:
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Pass once nobody is inside; whoever comes meanwhile waits."""
        with self._changed:
            self._changed.wait_for(lambda: not self._inside)
            yield  # the lock is held: nobody comes in
