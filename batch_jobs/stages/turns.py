"""The rows of a run, turn by turn: each turn of a chain edits what the one before it has published.

All chains go side by side: their first turns and the rows of no chain are edited together, then
all second turns, and so on. The next turn begins when the last row of this one is done.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.ledger.entry import Entry, to_ledger
from batch_jobs.ledger.turns import FailedTurn, failures
from batch_jobs.manifest.planned import PlannedRow, planned_rows
from batch_jobs.stages.run import BlockRun
from engine.edit import EditFailure

Edit = Callable[[BlockRun], Generator[pa.Table]]


def turn_by_turn(run: BlockRun, edit: Edit) -> Generator[pa.Table]:
    """Edit the rows of a run; yields their ledger rows. A row of which an earlier turn has failed
    is not edited, and its error says which."""
    turns = pc.fill_null(run.todo["turn"], 1)
    if pc.max(turns).as_py() == 1:
        yield from edit(run)
        return
    failed = dict(run.failed)
    for turn in sorted(turns.unique().to_pylist()):
        rows = run.todo.filter(pc.equal(turns, turn))
        is_stopped = pc.is_in(rows["chain_id"], value_set=pa.array(failed, pa.string()))
        stopped, ready = rows.filter(is_stopped), rows.filter(pc.invert(is_stopped))
        if len(stopped):
            yield to_ledger(_stopped(row, failed) for row in planned_rows(stopped))
        if len(ready):
            with closing(edit(replace(run, todo=ready))) as edited:
                for entries in edited:
                    failed |= failures(entries)
                    yield entries


def _stopped(row: PlannedRow, failed: Mapping[str, FailedTurn]) -> Entry:
    entry = Entry.of(row)
    entry.source = None  # there is none
    entry.fail(EditFailure.of(row.id, failed[row.chain_id or ""].error()))
    return entry
