"""Chains against the ledger: what is edited again with an earlier turn, and what stops at one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.ledger.layout import image_path
from batch_jobs.manifest.chains import later_rows
from engine.errors import PreviousTurnFailed
from engine.wire import OutputFormat
from storage.storage import Storage

_STOPPED = PreviousTurnFailed.code


@dataclass(frozen=True, slots=True)
class FailedTurn:
    """Names the turn at which a chain has stopped."""

    id: str  # of its row
    turn: int
    code: str  # of its error

    def error(self) -> PreviousTurnFailed:
        """Make the error of the turns after it."""
        return PreviousTurnFailed(
            f"turn {self.turn} of this chain, row {self.id}, failed ({self.code}): mend that, then "
            "--retry edits both"
        )


def with_previous_pictures(plan: pa.Table, format: OutputFormat) -> pa.Table:
    """Append the column `previous_picture`: of a later turn the picture that it edits, the first
    one of the turn before, as a path in the output."""
    pictures: list[str | None] = [None] * len(plan)
    ids, prints = plan["id"], plan["fingerprint"]
    for row, before in later_rows(plan):
        pictures[row] = image_path(ids[before].as_py(), prints[before].as_py(), 0, format)
    return plan.append_column("previous_picture", pa.array(pictures, pa.string()))


def with_sources(rows: pa.Table, storage: Storage) -> pa.Table:
    """Give the later turns among the rows of a plan the image that they edit."""
    at, pictures = rows.schema.get_field_index("image"), rows["previous_picture"]
    uris = pc.binary_join_element_wise(storage.url, pictures, "/")
    return rows.set_column(at, "image", pc.coalesce(uris, rows["image"]))


def with_later_turns(plan: pa.Table, known: pa.Table, is_todo: np.ndarray) -> np.ndarray:
    """Add to the rows of a plan that are edited the turns after them, of which the ledger holds
    what became of other pictures; and turns that it stopped at one that has succeeded since.

        turn   the ledger's            edited   with its later turns
        1      ok                      yes      yes
        2      ok                      no       yes
        1      ok, after a retry       no       no
        2      previous_turn_failed    no       yes
    """
    later = later_rows(plan)
    if not later:
        return is_todo
    edited = is_todo.copy()
    place = pc.index_in(plan["id"], value_set=known["id"].combine_chunks()).combine_chunks()
    codes = known["error_code"].combine_chunks().take(place).to_pylist()
    for row, before in later:
        was_mended = codes[row] == _STOPPED and codes[before] is None
        edited[row] |= edited[before] or was_mended
    return edited


def failed_turns(plan: pa.Table, known: pa.Table, todo: pa.Table) -> dict[str, FailedTurn]:
    """Find the chains of a plan that the ledger holds as failed, and that go no further: chain_id
    -> the turn that failed; `todo`: the rows that are edited, failed ones that are tried again
    among them."""
    if plan["turn"].null_count == len(plan):
        return {}
    failed = pc.and_(
        pc.equal(known["status"], "error"), pc.not_equal(known["error_code"], _STOPPED)
    )
    code_of = dict(
        zip(*(known.filter(failed)[name].to_pylist() for name in ("id", "error_code")), strict=True)
    )
    again = set(todo["id"].to_pylist())
    chained = plan.select(["id", "chain_id", "turn"]).filter(pc.is_valid(plan["turn"]))
    return {
        row["chain_id"]: FailedTurn(row["id"], row["turn"], code_of[row["id"]])
        for row in chained.to_pylist()
        if row["id"] in code_of and row["id"] not in again
    }


def failures(entries: pa.Table) -> dict[str, FailedTurn]:
    """Find the same among ledger rows that have just been made."""
    failed = entries.filter(
        pc.and_(pc.is_valid(entries["turn"]), pc.is_valid(entries["error_code"]))
    )
    rows = failed.select(["id", "chain_id", "turn", "error_code"]).to_pylist()
    return {row["chain_id"]: FailedTurn(row["id"], row["turn"], row["error_code"]) for row in rows}
