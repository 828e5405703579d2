"""The second stage: requests -> edited images, by a model that stays loaded between blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
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

if TYPE_CHECKING:  # it loads torch
    from engine.actor import EditActor


@dataclass(frozen=True, slots=True)
class EditedRow:
    """Carries a row from the second stage to the third."""

    entry: Entry
    finishing: Finishing | None = None  # what its result is made with
    result: EditResult | None = None  # None where the row has failed, which the entry tells
    source_look: Look | None = None  # where the edit has a style
    looks: tuple[Look, ...] = ()  # likewise, one of each image
    # (H, W, 3) uint8 RGB, of the canvas, where it is published beside its result
    source: np.ndarray | None = None


class Model(Protocol):
    """What edits are made by, as the ledger names it: an `EditActor` is one."""

    @property
    def spec(self) -> ModelSpec:
        """Describe it."""
        ...

    @property
    def revision(self) -> str:
        """Name its weights."""
        ...

    @property
    def config(self) -> EngineConfig:
        """Say how it runs."""
        ...

    @property
    def alive(self) -> bool:
        """Tell whether it can go on."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class EditWorker:
    """Edits blocks, as Ray Data calls an actor, and keeps its model between calls."""

    def __init__(self, config: EngineConfig, spec: ModelSpec, journal: Journal) -> None:
        self._model = self._load(config, spec)
        self._journal = journal
        self._gate = Gate()

    def __call__(self, block: pa.Table) -> pa.Table:
        """Make a table of `EditedRow` from one of `DecodedRow`."""
        rows = from_table(DecodedRow, block)
        ready = [row for row in rows if row.prepared is not None]
        outcomes = {outcome.id: outcome for outcome in self._outcomes(ready)}
        return to_table(EditedRow, [self._edited(row, outcomes.get(row.entry.id)) for row in rows])

    def close(self) -> None:
        """End the model's thread."""
        self._model.close()

    def _load(self, config: EngineConfig, spec: ModelSpec) -> Model:
        from engine.actor import EditActor

        return EditActor(config, spec)

    def _edit(self, rows: Sequence[DecodedRow]) -> list[EditOutcome]:
        """Edit rows that are ready, all together."""
        requests = [row.prepared.request for row in rows if row.prepared is not None]
        actor = cast("EditActor", self._model)
        return actor.edit_batch(sorted(requests, key=_lane))

    def _outcomes(self, rows: list[DecodedRow]) -> list[EditOutcome]:
        """Edit all together; or, where a worker died on them, each alone."""
        if not rows:
            return []
        journal = self._journal.block([row.entry.id for row in rows])
        journal.check()
        if journal.suspected:
            with self._gate.alone():
                outcomes = self._investigate(journal, rows)
        else:
            with self._gate.together():
                journal.open()
                outcomes = self._edit(rows)
        if not self._model.alive:  # from now on it would refuse whatever it is given
            raise WorkerCrashed("the model's thread has ended: see the worker's log")
        journal.close()
        return outcomes

    def _investigate(self, journal: BlockJournal, rows: list[DecodedRow]) -> list[EditOutcome]:
        """Edit the rows of a block on which a worker died, as the journal tells of each.

        survived alone      alone all the same, and first: the block may have died of being together
        died alone once     alone, before those of which nothing is known
        nothing             alone
        died alone twice    convicted: it is not edited any more
        """
        convicted, cleared = journal.convicted, journal.cleared
        suspects = [row for row in rows if row.entry.id not in convicted | cleared]
        died_once = [row for row in suspects if journal.died_alone(row.entry.id)]
        unknown = [row for row in suspects if not journal.died_alone(row.entry.id)]
        outcomes: list[EditOutcome] = []
        for row in rows:
            if row.entry.id in cleared:
                outcomes += self._edit([row])
        for row in died_once + unknown:
            journal.open(row.entry.id)
            outcomes += self._edit([row])
            journal.survived()
        crashed = WorkerCrashed(
            f"{DEATHS_TO_CONVICT} workers died while they edited this row alone"
        )
        return outcomes + [EditFailure.of(id, crashed) for id in convicted]

    def _edited(self, row: DecodedRow, outcome: EditOutcome | None) -> EditedRow:
        entry, model = row.entry, self._model
        entry.model, entry.model_revision = model.spec.name, model.revision
        entry.determinism = model.config.determinism
        if isinstance(outcome, EditFailure):
            entry.fail(outcome)
        if row.prepared is None or not isinstance(outcome, EditResult):
            return EditedRow(entry)
        entry.warnings += outcome.warnings
        entry.understood_as = outcome.understood_as
        entry.batch_size, entry.model_s = outcome.batch_size, outcome.model_s
        entry.instruction_used = outcome.instruction_used
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
