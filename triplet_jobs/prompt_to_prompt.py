"""The Prompt-to-Prompt pairer: both pictures are painted, from their captions and one noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from batch_jobs.manifest.carried import carried_values
from batch_jobs.stages.decode import DecodedRow
from batch_jobs.stages.edit import EditedRow
from engine.edit import EditOutcome, EditRequest, EditResult
from engine.pair import PairRequest
from engine.text import clean_instruction
from triplet_jobs.candidates import P2P
from triplet_jobs.pairing import PairWorker, captions_of_pair

if TYPE_CHECKING:  # it loads torch
    from engine.actor import EditActor


class PromptToPromptWorker(PairWorker):
    """Paints the pair of each row on a canvas of the size that was decoded for it."""

    def _edit(self, rows: Sequence[DecodedRow]) -> list[EditOutcome]:
        actor = cast("EditActor", self._model)
        ready = [(row, row.prepared.request) for row in rows if row.prepared is not None]
        return actor.edit_batch([self._request(*one) for one in ready])

    def _request(self, row: DecodedRow, canvas: EditRequest) -> PairRequest:
        caption, edited_caption = map(clean_instruction, captions_of_pair(row.entry))
        own = {field.name: getattr(canvas, field.name) for field in fields(canvas)}
        return PairRequest(
            **(own | {"instruction": caption}),
            edited_caption=edited_caption,
            p2p_threshold=carried_values(row.entry.carried)[P2P],
            attention=self._factory.p2p_attention,
        )

    def _edited(self, row: DecodedRow, outcome: EditOutcome | None) -> EditedRow:
        """The first picture stands where an edit has its source."""
        if row.prepared is not None and isinstance(outcome, EditResult):
            before, after = map(np.ascontiguousarray, np.split(outcome.images[0], 2, axis=1))
            request = replace(row.prepared.request, pixels=before)
            row = replace(row, prepared=replace(row.prepared, request=request))
            outcome = replace(outcome, images=[after])
        return super()._edited(row, outcome)
