"""Filters: which score of a candidate is too low for the data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from engine.edit import PairScores
from triplet_jobs.config import PairerName, TripletConfig

FOLLOWING = "following"
NOT_AMONG_BEST = "not_among_best"  # good enough, and others of its instruction were better
# Edges that correlate less are of another picture (docs/decisions.md); arithmetic makes none.
MIN_EDGE_CORRELATION: dict[PairerName, float] = {
    "programmatic": -1.0,
    "editor": 0.15,
    "prompt_to_prompt": -1.0,  # the reference looks at CLIP alone
}
RANKED_BY = ("clip_sim_dir", "following", "edge_correlation")  # the first that a candidate has


@dataclass(frozen=True, slots=True)
class Filters:
    """Holds the least score of a kept pair, by name."""

    least: tuple[tuple[str, float], ...]  # in the order in which they are looked at

    @classmethod
    def of(cls, config: TripletConfig) -> Self:
        """Take them from a configuration."""
        structure = config.min_edge_correlation
        if structure is None:
            structure = MIN_EDGE_CORRELATION[config.pairer]
        least = [("change", config.min_change), ("edge_correlation", structure)]
        if config.clip is not None:
            least += [
                ("clip_sim_image", config.clip_img_threshold),
                ("clip_sim_dir", config.clip_dir_threshold),
                ("clip_sim_0", config.clip_threshold),
                ("clip_sim_1", config.clip_threshold),
            ]
        if config.judge is not None:
            least.append((FOLLOWING, config.min_following))
        return cls(tuple(least))

    def missed(self, scores: PairScores) -> str | None:
        """Name the first score that is too low, None where none is."""
        return next((name for name, least in self.least if _value(scores, name) < least), None)


def rank(scores: PairScores) -> float:
    """Say how good a candidate is among those of its instruction: more is better."""
    found = (getattr(scores, name) for name in RANKED_BY)
    return next((value for value in found if value is not None), 0.0)


def _value(scores: PairScores, name: str) -> float:
    value = getattr(scores, name)
    if value is None:  # of an edit that the judge does not know it says nothing
        return float("inf" if name == FOLLOWING else "-inf")
    return float(value)
