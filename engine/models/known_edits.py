"""The edits that a small model knows: does an instruction ask for one, is a result that one?

A folder's `known_edits/` holds the text that stands for each edit in two languages, its code (the
state that the text encoder ends an instruction for it with), and two small layers that tell from
the states of an instruction whether it asks for any of them (training/train_known_edits.py). Where
there is a `judge/` too, it tells which of them was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from engine.errors import ModelError
from engine.quality.judge import PocketJudge, has_judge
from engine.registry import read_json
from engine.text import unknown_scripts
from engine.weights import KNOWN_EDITS

WEIGHTS = "model.safetensors"
# The cosine to a code from which an instruction asks for that edit and no other beside it: of 258
# hand-written requests for one edit 252 are above it, of 8 for two at once 1.
ALONE = 0.92


def has_known_edits(folder: Path) -> bool:
    """Tell whether a model's folder says what it knows."""
    return (folder / KNOWN_EDITS / "config.json").exists()


def features_of(states: Tensor, count: int) -> Tensor:
    """What is looked at of an instruction: states (T, D) of which `count` are tokens -> (3 D,).

    How it ends, and the mean and the greatest of what was read on the way there.
    """
    read = states[1 : max(count - 1, 2)]
    return torch.cat([states[-1], read.mean(dim=0), read.amax(dim=0)])


class KnownEdits:
    """Tells the edits that a model knows from others. Reads states of its text encoder."""

    def __init__(
        self,
        edits: Sequence[dict[str, str]],
        weights: dict[str, Tensor],
        judge: PocketJudge | None = None,
    ) -> None:
        """`edits`: of each its text by language; `weights`: by the names that training gives.

        Raises `ModelError` for a judge of other edits.
        """
        if judge is not None and len(judge.kinds) != len(edits):
            raise ModelError(f"the judge knows {len(judge.kinds)} edits, and not {len(edits)}")
        self._judge = judge
        self._edits = list(edits)
        self._weights = {name: weight.float() for name, weight in weights.items()}

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> Self:
        """Read `known_edits/` of a model's folder, and its judge, where it has one, to a device.

        Raises `ModelError` and `OSError`.
        """
        from safetensors.torch import load_file

        place = folder / KNOWN_EDITS
        judge = PocketJudge.load(folder, device) if has_judge(folder) else None
        return cls(read_json(place / "config.json")["edits"], load_file(place / WEIGHTS), judge)

    def nearest_to_unknown(self, instruction: str, states: Tensor, count: int) -> str | None:
        """Return the edit that is nearest to an instruction for none of them, in its language.

        `states` (T, D): of the instruction, of which `count` are tokens. None where it asks for one
        of the edits.
        """
        if self.knows(states, count):
            return None
        is_chinese = "CJK" in unknown_scripts(instruction, ("LATIN",))
        return self.nearest(states)["chinese" if is_chinese else "english"]

    def knows(self, states: Tensor, count: int) -> bool:
        """Tell whether an instruction asks for one of the edits; see `nearest_to_unknown`."""
        return self._score(states.float().cpu(), count) <= 0

    def nearest(self, states: Tensor) -> dict[str, str]:
        """Find the edit whose code is nearest to how an instruction ends: its text by language."""
        return self._edits[int(self._cosines(states).argmax())]

    def following(
        self, sources: Tensor, edited: Tensor, states: Tensor, count: int
    ) -> list[float] | None:
        """Return how sure the judge is of each result that it is the edit which was asked for.

        Pictures (N, 3, H, W) float RGB in 0..1; `states`, `count`: of the instruction. None without
        a judge, and where the instruction asks for none of the edits, or for two at once.
        """
        nearest, place = self._cosines(states).max(dim=0)
        if self._judge is None or nearest < ALONE or not self.knows(states, count):
            return None
        found: list[float] = self._judge.answers(sources, edited)[:, place].tolist()
        return found

    def _cosines(self, states: Tensor) -> Tensor:
        """How near an instruction ends to the code of each edit."""
        return self._weights["codes"] @ functional.normalize(states.float().cpu()[-1], dim=0)

    def _score(self, states: Tensor, count: int) -> float:
        """Above 0: it asks for none of the edits."""
        w = self._weights
        features = features_of(states, count)
        inner = functional.silu(functional.linear(features, w["inner.weight"], w["inner.bias"]))
        return float(functional.linear(inner, w["outer.weight"], w["outer.bias"]))
