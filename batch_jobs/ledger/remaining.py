"""What is left to do: the rows of a plan against those of a ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.config import JobConfig
from batch_jobs.ledger.fingerprint import keys
from batch_jobs.ledger.turns import FailedTurn, failed_turns, with_later_turns

# Of the ledger, what decides whether a row is edited again.
KNOWN_COLUMNS = ["id", "fingerprint", "status", "error_code", "attempts", "finished_at"]


@dataclass(frozen=True, slots=True)
class Remaining:
    """Holds the rows that a run edits, and those that its ledger holds in vain."""

    todo: pa.Table  # of the plan, with a column `attempts`: with this one
    outdated: pa.Table  # of the ledger (`KNOWN_COLUMNS`, `PART`): what was edited anew, or has left
    # the manifest
    since: datetime  # when the retry began that this run goes on with, or now
    changed: int  # rows that were ok and are edited again, since something of them has changed
    others: int = 0  # rows that are left beside those that were asked for
    others_changed: int = 0  # of them, what the ledger holds in another form
    # chain_id -> the turn that has failed and is not edited again: no later one can be
    failed: Mapping[str, FailedTurn] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        plan: pa.Table,
        known: pa.Table,
        config: JobConfig,
        since: datetime,
        only: pa.ChunkedArray | None = None,
    ) -> Remaining:
        """Compare a plan with the rows of its ledger; see `rows_to_edit`.

        `only`: the ids that a retry names, beside which nothing is edited.
        """
        todo = rows_to_edit(plan, known, config, since, only)
        others = todo[:0] if only is None else not_among(todo, only)
        todo = not_among(todo, others["id"])
        outdated = not_among(known, not_among(plan, todo["id"])["id"])
        others_changed = len(among(others, known["id"]))
        changed = _changed_rows(plan, outdated)
        failed = failed_turns(plan, known, todo)
        return cls(todo, outdated, since, changed, len(others), others_changed, failed)


def rows_to_edit(
    plan: pa.Table,
    known: pa.Table,
    config: JobConfig,
    since: datetime,
    only: pa.ChunkedArray | None = None,
) -> pa.Table:
    """Select the rows of a plan that the ledger does not hold as done, and count their attempts.

    Done is what the ledger holds once, with the same fingerprint, unless it failed before `since`
    and is to be retried: for its code, or its id among `only`. With `retry="all"`:

        plan    the ledger's rows of that id          edited   attempts
        a, f1   -                                     yes      1
        b, f1   f1, ok, attempts 1                    no
        c, f2   f1, ok, attempts 1: it has changed    yes      2
        d, f1   f1, error, attempts 1, before         yes      2
        e, f1   f1, error, attempts 2, since          no
        g, f1   f1, ok, twice: another job wrote      yes      2

    With a row its later turns are edited: see `with_later_turns`.
    """
    again = pc.or_(_to_retry(known, config, since, only), _is_repeated(known["id"]))
    done = known.filter(pc.invert(again))
    is_todo = pc.invert(pc.is_in(keys(plan), keys(done))).to_numpy(zero_copy_only=False)
    todo = plan.filter(pa.array(with_later_turns(plan, known, is_todo)))
    place = pc.index_in(todo["id"], value_set=known["id"].combine_chunks()).combine_chunks()
    before = pc.fill_null(known["attempts"].combine_chunks().take(place), 0)
    return todo.append_column("attempts", pc.add(before, 1))


def _to_retry(
    known: pa.Table, config: JobConfig, since: datetime, only: pa.ChunkedArray | None
) -> pa.Array | pa.ChunkedArray:
    if config.retry is None:
        return pa.repeat(False, len(known))
    asked = pc.equal(known["status"], "error")
    if only is not None:
        asked = pc.and_(asked, pc.is_in(known["id"], only.combine_chunks()))
    elif config.retry != "all":
        asked = pc.fill_null(pc.equal(known["error_code"], config.retry), False)
    return pc.and_(
        asked, pc.less(known["finished_at"], pa.scalar(since, pa.timestamp("us", "UTC")))
    )


def _is_repeated(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Tell of each id whether it is there more than once."""
    counts = pc.value_counts(ids)
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    return pc.is_in(ids, value_set=twice)


def _changed_rows(plan: pa.Table, outdated: pa.Table) -> int:
    """Count the outdated rows that were ok, and are rows of the plan in another form."""
    return left_behind(plan, among(outdated, plan["id"]))


def left_behind(plan: pa.Table, outdated: pa.Table) -> int:
    """Count the outdated rows whose pictures nothing names once they are gone."""
    ok = outdated.filter(pc.equal(outdated["status"], "ok"))
    return len(ok) - (pc.sum(pc.is_in(keys(ok), keys(plan))).as_py() or 0)


def among(rows: pa.Table, ids: pa.ChunkedArray) -> pa.Table:
    """Select the rows whose `id` is among these."""
    return rows.filter(pc.is_in(rows["id"], ids.combine_chunks()))


def not_among(rows: pa.Table, ids: pa.ChunkedArray) -> pa.Table:
    """Select the rows whose `id` is not among these."""
    return rows.filter(pc.invert(pc.is_in(rows["id"], ids.combine_chunks())))
