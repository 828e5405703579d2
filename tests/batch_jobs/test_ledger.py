"""What is in a ledger is there whole, whoever reads it and whenever."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from batch_jobs.ledger.entry import Entry, to_ledger
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.remaining import among
from storage.storage import Storage


def remove(book: Ledger, ids: str) -> None:
    book.remove(placed(book, ids))


def placed(book: Ledger, ids: str) -> pa.Table:
    """The rows of these ids, and where they are."""
    rows = book.read(["id"], placed=True)
    return among(rows, pa.chunked_array([list(ids)], pa.string()))


def test_a_ledger_never_shows_half_a_commit(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    book = Ledger(storage)
    book.append(to_ledger(Entry(f"{i}") for i in range(5)))
    (tmp_path / "results" / ".broken.part").write_bytes(b"half a file")
    assert len(book.read()) == 5
    remove(book, "13")
    assert sorted(book.read(["id"])["id"].to_pylist()) == ["0", "2", "4"]
    remove(book, "024")
    assert len(book.read()) == 0 and storage.list("results") == []


def test_nothing_is_read_to_remove_nothing(tmp_path: Path) -> None:
    (tmp_path / "results" / "part.parquet").mkdir(parents=True)  # to read it would fail
    outdated = Ledger(Storage(str(tmp_path / "none"))).read(["id"], placed=True)
    Ledger(Storage(str(tmp_path))).remove(outdated)


class RacedStorage(Storage):
    """Another job rewrites the ledger between the listing and the reading."""

    races = 2

    def list(self, folder: str, suffix: str = "") -> list[str]:
        found = super().list(folder, suffix)
        if self.races:
            self.races -= 1
            self.publish(f"{folder}/{self.races}.parquet", self.read(found[0]))
            self.remove(found[0])
        return found


def test_a_part_that_vanishes_is_looked_for_again(tmp_path: Path) -> None:
    storage = RacedStorage(str(tmp_path))
    book = Ledger(storage)
    book.append(to_ledger([Entry("a")]))
    assert book.read(["id"])["id"].to_pylist() == ["a"]
    assert storage.races == 0
