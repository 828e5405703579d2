"""Whether an edit came out: nothing of it, too much, another one than was asked for, or right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, Self

import numpy as np
from PIL import Image

from engine.quality.measures import measure

Verdict = Literal["right", "weak", "overdone", "other"]

# A result is another edit where `following` is less. What speaks for it before it is seen counts:
# most of what a model makes with its own scales is right, and little with others that are far off.
# What one branch made fast, and three make again at little loss, must be beyond doubt.
FOLLOWED_NEAR, FOLLOWED_FAR, FOLLOWED_FAST = 0.2, 0.5, 0.8
_LOST = {"result_blank", "structure_lost"}


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found of the images of an edit, all together."""

    # how sure a judge is that they are what was asked for, 0 to 1; None where none can tell
    following: float | None
    keeping: float  # how much of the source's structure is in its place, 0 to 1
    is_unchanged: bool  # nothing is to be seen of an edit
    is_lost: bool  # nothing is to be seen of the source

    @classmethod
    def of(
        cls, images: Sequence[np.ndarray], reference: np.ndarray, following: Sequence[float] | None
    ) -> Self:
        """Measure images, (h, w, 3) uint8 RGB, beside what an edit of nothing would have given.

        `following`: of each of them, where a judge can tell.
        """
        found = [measure(Image.fromarray(image), reference, "fast") for image in images]
        return cls(
            None if following is None else fmean(following),
            fmean(max(measured.edge_correlation, 0.0) for measured, _ in found),
            all("result_unchanged" in codes for _, codes in found),
            any(_LOST.intersection(codes) for _, codes in found),
        )

    def verdict(self, followed: float) -> Verdict:
        """Say what is wrong with it; a judge that recognises the edit overrules the measures.

        `followed`: of `following`, what it must be at least.
        """
        if self.following is not None and self.following >= followed:
            return "right"
        if self.is_unchanged:
            return "weak"
        if self.is_lost:
            return "overdone"
        return "right" if self.following is None else "other"

    @property
    def score(self) -> float:
        """Weigh how well it follows against how much it keeps, 0 to 1."""
        following = float(not self.is_unchanged) if self.following is None else self.following
        return math.sqrt(following * self.keeping)
