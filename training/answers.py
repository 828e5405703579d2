"""What the judge should answer of a result: of every kind, whether its edit is what happened.

An edit happens where the result is nearer to its true edit than to every other one that can be told
from it on that photograph (`measures.nearest`). Two that look alike there are both what happened:
all but the blue, in grey, where nothing is blue, is black and white, too.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.crops import Colours
from training.kinds import KINDS
from training.measures import ALIKE_DB, INVISIBLE_DB, true_edits

NAMES = tuple(KINDS)
NONE = len(NAMES)  # the last answer: none of the kinds that show on the photograph
CLEARLY_DB = 1.5  # nearer than to any other true edit by so much: without a doubt


class TrueEdits:
    """All true edits of one photograph."""

    def __init__(self, source: Colours) -> None:
        truths = true_edits(source)
        self._edits = _flat(np.stack([truths[name] for name in NAMES] + [source]))
        between_db = _psnr(self._edits, self._edits)
        self._apart = between_db < ALIKE_DB  # (46, 46): those that can be told from each other
        self.shown = between_db[NONE, :NONE] < INVISIBLE_DB  # (45,): the kinds that can be seen

    def answers(self, results: Colours) -> Tensor:
        """(N, H, W, 3) -> (N, 46) float32 in 0..1: how far each kind is what happened, and none."""
        near_db = _psnr(_flat(results), self._edits)
        others = np.where(self._apart[:NONE], near_db[:, None], -np.inf).max(axis=-1)
        happened = np.clip((near_db[:, :NONE] - others) / (2 * CLEARLY_DB) + 0.5, 0, 1)
        none = 1 - np.where(self.shown, happened, 0).max(axis=-1, keepdims=True)
        return torch.from_numpy(np.concatenate([happened, none], axis=-1)).float()


def row_of(answers: dict[int, float]) -> Tensor:
    """(46,) float32 of what is said by the number of the answer; 0 of what is not."""
    row = torch.zeros(NONE + 1)
    for number, share in answers.items():
        row[number] = share
    return row


def _flat(pictures: Colours) -> NDArray[np.float64]:
    return pictures.reshape(len(pictures), -1).astype(np.float64)


def _psnr(some: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, D) and (M, D) in 0..1 -> (N, M) dB."""
    squares = (some**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * some @ others.T
    return np.asarray(-10 * np.log10(np.maximum(squares / some.shape[1], 1e-10)))
