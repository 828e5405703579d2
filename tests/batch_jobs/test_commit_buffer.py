"""Rows enter the ledger in parts, and what they stand for leaves it with them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from batch_jobs.ledger.commit_buffer import CommitBuffer
from batch_jobs.ledger.entry import Entry, to_ledger
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.remaining import among
from storage.storage import Storage


def failed(ids: str) -> pa.Table:
    return to_ledger(Entry(id, status="error") for id in ids)


def test_a_row_leaves_the_ledger_when_its_successor_is_committed(
    tmp_path: Path,
) -> None:
    book = Ledger(Storage(str(tmp_path)))
    book.append(to_ledger(map(Entry, "ab")))
    book.append(to_ledger(map(Entry, "ce")))

    def statuses() -> dict[str, str]:
        rows = book.read(["id", "status"]).to_pylist()
        assert len({row["id"] for row in rows}) == len(rows)
        return {row["id"]: row["status"] for row in rows}

    before = statuses()
    outdated = among(book.read(["id"], placed=True), pa.chunked_array([list("abc")]))
    with CommitBuffer(book, 4, lambda: None, outdated):
        pass  # nothing came of the run
    assert statuses() == before
    with CommitBuffer(book, 4, lambda: None, outdated) as commits:
        commits.add(failed("a"))
        assert statuses() == before
        commits.add(failed("d"))
        assert statuses() == {**before, "a": "error", "d": "error"}
        commits.add(failed("bc"))
    assert statuses() == {id: "ok" if id == "e" else "error" for id in "abcde"}
