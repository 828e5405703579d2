"""Pairing: a source and its edit become a candidate with scores, or one that is filtered."""

from __future__ import annotations

from dataclasses import asdict, replace
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from batch_jobs.ledger.entry import Entry
from batch_jobs.manifest.carried import carried_values
from batch_jobs.stages.crash_journal import Journal
from batch_jobs.stages.decode import DecodedRow
from batch_jobs.stages.edit import EditedRow, EditWorker
from engine.config import EngineConfig
from engine.edit import EditFailure, EditOutcome, PairScores
from engine.errors import EngineError
from engine.geometry import from_canvas
from engine.spec import ModelSpec
from triplet_jobs.captions import CAPTION, EDITED_CAPTION
from triplet_jobs.config import TripletConfig
from triplet_jobs.filters import Filters

if TYPE_CHECKING:
    from engine.edit_judge import EditJudge
    from engine.quality.clip_scores import ClipScorer


class PairWorker(EditWorker):
    """Edits blocks, and scores each edit beside its source where both lie in one process. The
    pictures of a pair that is filtered go no further."""

    def __init__(
        self, config: EngineConfig, spec: ModelSpec, journal: Journal, factory: TripletConfig
    ) -> None:
        super().__init__(config, spec, journal)
        self._factory, self._filters = factory, Filters.of(factory)
        self._scorer: ClipScorer | None = None
        self._edit_judge: EditJudge | None = None
        self._scoring = Lock()  # blocks come two at a time

    def _edited(self, row: DecodedRow, outcome: EditOutcome | None) -> EditedRow:
        edited = super()._edited(row, outcome)
        if edited.result is None or row.prepared is None:
            return edited
        entry, source = edited.entry, row.prepared.request.pixels
        geometry = row.prepared.finishing.geometry
        canvases = source, edited.result.images[0]
        try:
            entry.scores = self._score(row, *(from_canvas(one, geometry) for one in canvases))
            if self._factory.judge is not None:
                following = self._judge(canvases, row.prepared.request.instruction)
                entry.scores = replace(entry.scores, following=following)
        except EngineError as error:
            entry.fail(EditFailure.of(entry.id, error))
            return EditedRow(entry)
        entry.filtered = self._filters.missed(entry.scores)
        if entry.filtered is not None:
            return EditedRow(entry)
        return replace(edited, source=source)

    def _score(self, row: DecodedRow, before: Image.Image, after: Image.Image) -> PairScores:
        from engine.quality.pair_scores import score_pair  # loads OpenCV

        scores = score_pair(before, after)
        if self._factory.clip is None:
            return scores
        with self._scoring:
            if self._scorer is None:
                self._scorer = _load_clip(self._factory)
            found = self._scorer.score(before, after, *captions_of_pair(row.entry))
        return replace(scores, **asdict(found))

    def _judge(self, canvases: tuple[np.ndarray, np.ndarray], instruction: str) -> float | None:
        """Judge a pair as the model saw and made it, before a crop."""
        with self._scoring:
            if self._edit_judge is None:
                self._edit_judge = _load_judge(self._factory)
            return self._edit_judge.following(*canvases, instruction)


def captions_of_pair(entry: Entry) -> tuple[str, str]:
    """Read the captions of a candidate, before and after its edit."""
    carried = carried_values(entry.carried)
    return carried[CAPTION], carried[EDITED_CAPTION]


def _load_clip(factory: TripletConfig) -> ClipScorer:
    from engine.quality.clip_scores import ClipScorer  # loads torch and transformers

    return ClipScorer(factory.clip or "", factory.job.engine.device)


def _load_judge(factory: TripletConfig) -> EditJudge:
    from engine.edit_judge import EditJudge

    return EditJudge(factory.judge or "", factory.job.engine.device)
