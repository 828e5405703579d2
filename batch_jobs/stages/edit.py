"""The second stage: requests -> edited images, by a model that stays loaded between blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from batch_jobs.ledger.entry import Entry
from batch_jobs.records import from_table, to_table
from batch_jobs.stages.crash_journal import DEATHS_TO_CONVICT, BlockJournal, Gate, Journal
from batch_jobs.stages.decode import DecodedRow
from engine.config import EngineConfig
from engine.edit import EditFailure, EditOutcome, EditRequest, EditResult, Look
from engine.errors import WorkerCrashed
from engine.sources import Finishing
from engine.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class EditedRow:
    """Carries a row from the second stage to the third."""

    entry: Entry
    finishing: Finishing | None = None  # what its result is made with
    result: EditResult | None = None  # None where the row has failed, which the entry tells
    source_look: Look | None = None  # where the edit has a style
    looks: tuple[Look, ...] = ()  # likewise, one of each image


class EditWorker:
    """Edits blocks, as Ray Data calls an actor, and keeps its model between calls."""

    def __init__(self, config: EngineConfig, spec: ModelSpec, journal: Journal) -> None:
        from engine.actor import EditActor

        self._actor = EditActor(config, spec)
        self._journal = journal
        self._gate = Gate()

    def __call__(self, block: pa.Table) -> pa.Table:
        """Make a table of `EditedRow` from one of `DecodedRow`."""
        rows = from_table(DecodedRow, block)
        requests = [row.prepared.request for row in rows if row.prepared is not None]
        outcomes = {outcome.id: outcome for outcome in self._outcomes(requests)}
        return to_table(EditedRow, [self._edited(row, outcomes.get(row.entry.id)) for row in rows])

    def close(self) -> None:
        """End the model's thread."""
        self._actor.close()

    def _outcomes(self, requests: list[EditRequest]) -> list[EditOutcome]:
        """Edit all together; or, where a worker died on them, each alone."""
        if not requests:
            return []
        journal = self._journal.block([request.id for request in requests])
        journal.check()
        if journal.suspected:
            with self._gate.alone():
                outcomes = self._investigate(journal, requests)
        else:
            with self._gate.together():
                journal.open()
                outcomes = self._actor.edit_batch(sorted(requests, key=_lane))
        if not self._actor.alive:  # from now on it would refuse whatever it is given
            raise WorkerCrashed("the model's thread has ended: see the worker's log")
        journal.close()
        return outcomes

    def _investigate(self, journal: BlockJournal, requests: list[EditRequest]) -> list[EditOutcome]:
        """Edit the rows of a block on which a worker died, as the journal tells of each.

        survived alone      alone all the same, and first: the block may have died of being together
        died alone once     alone, before those of which nothing is known
        nothing             alone
        died alone twice    convicted: it is not edited any more
        """
        convicted, cleared = journal.convicted, journal.cleared
        suspects = [r for r in requests if r.id not in convicted | cleared]
        died_once = [r for r in suspects if journal.died_alone(r.id)]
        unknown = [r for r in suspects if not journal.died_alone(r.id)]
        outcomes: list[EditOutcome] = []
        for request in requests:
            if request.id in cleared:
                outcomes += self._actor.edit_batch([request])
        for request in died_once + unknown:
            journal.open(request.id)
            outcomes += self._actor.edit_batch([request])
            journal.survived()
        crashed = WorkerCrashed(
            f"{DEATHS_TO_CONVICT} workers died while they edited this row alone"
        )
        return outcomes + [EditFailure.of(id, crashed) for id in convicted]

    def _edited(self, row: DecodedRow, outcome: EditOutcome | None) -> EditedRow:
        entry, actor = row.entry, self._actor
        entry.model, entry.model_revision = actor.spec.name, actor.revision
        entry.determinism = actor.config.determinism
        if isinstance(outcome, EditFailure):
            entry.fail(outcome)
        if row.prepared is None or not isinstance(outcome, EditResult):
            return EditedRow(entry)
        entry.warnings += outcome.warnings
        entry.understood_as = outcome.understood_as
        entry.batch_size, entry.model_s = outcome.batch_size, outcome.model_s
        looks = _looks(row.prepared.request, outcome)
        return EditedRow(entry, row.prepared.finishing, outcome, *looks)


def _looks(request: EditRequest, result: EditResult) -> tuple[Look | None, tuple[Look, ...]]:
    """Measure source and images here, where they lie side by side: some milliseconds each."""
    if request.options.style is None:
        return None, ()
    from engine.look import look_of  # loads OpenCV

    return look_of(request.pixels), tuple(map(look_of, result.images))


def _lane(request: EditRequest) -> tuple[Any, ...]:
    """Rows of one shape run together, the longest first, so that a batch stays full to its end."""
    references = tuple(reference.shape for reference in request.references)
    return request.pixels.shape, references, -request.options.num_inference_steps
