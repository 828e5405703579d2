"""Pairing: a source and its edit become a candidate with scores, or one that is filtered."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from batch_jobs.stages.crash_journal import Journal
from batch_jobs.stages.decode import DecodedRow
from batch_jobs.stages.edit import EditedRow, EditWorker
from engine.config import EngineConfig
from engine.edit import EditFailure, EditOutcome, PairScores
from engine.errors import EngineError
from engine.geometry import from_canvas
from engine.spec import ModelSpec
from triplet_jobs.filters import Filters


class PairWorker(EditWorker):
    """Edits blocks, and scores each edit beside its source where both lie in one process. The
    pictures of a pair that is filtered go no further."""

    def __init__(
        self, config: EngineConfig, spec: ModelSpec, journal: Journal, filters: Filters
    ) -> None:
        super().__init__(config, spec, journal)
        self._filters = filters

    def _edited(self, row: DecodedRow, outcome: EditOutcome | None) -> EditedRow:
        edited = super()._edited(row, outcome)
        if edited.result is None or row.prepared is None:
            return edited
        entry, source = edited.entry, row.prepared.request.pixels
        geometry = row.prepared.finishing.geometry
        pictures = [from_canvas(one, geometry) for one in (source, edited.result.images[0])]
        try:
            entry.scores = self._score(row, *pictures)
        except EngineError as error:
            entry.fail(EditFailure.of(entry.id, error))
            return EditedRow(entry)
        entry.filtered = self._filters.missed(entry.scores)
        if entry.filtered is not None:
            return EditedRow(entry)
        return replace(edited, source=source)

    def _score(self, row: DecodedRow, before: Image.Image, after: Image.Image) -> PairScores:
        from engine.quality.pair_scores import score_pair  # loads OpenCV

        return score_pair(before, after)
