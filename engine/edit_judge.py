"""A judge of pairs: how sure is a small model that a picture is the edit which was asked for?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.errors import InstructionTooLong, ModelError
from engine.registry import find_model
from engine.weights import JUDGE, KNOWN_EDITS, digest_parts, verify_weights

if TYPE_CHECKING:  # torch takes seconds to import: only a judge pays them
    import torch

READS = ("tokenizer", "text_encoder", KNOWN_EDITS, JUDGE)  # folders that its word depends on


class EditJudge:
    """Judges pairs by what a model's folder says of its own edits. For one thread."""

    def __init__(self, name: str, device: str = "auto") -> None:
        """Load judge and text encoder of a model in float32; raises what `find_judge` does.

        `name`: as of `find_model`. `device`: see `choose_device`.
        """
        import torch

        from engine.device import choose_device
        from engine.models import Placement
        from engine.models.clip_text import ClipText
        from engine.models.known_edits import KnownEdits

        folder = _folder_of(name)
        self._device = choose_device(device)
        self._text = ClipText.load(folder, Placement(self._device, torch.float32))
        self._known = KnownEdits.load(folder, self._device)

    def following(self, before: np.ndarray, after: np.ndarray, instruction: str) -> float | None:
        """Say how sure it is, from 0 to 1, that `after` is what an instruction makes of `before`.

        Both (H, W, 3) uint8 RGB. None of an instruction that asks for none of the edits that the
        model knows, or for two at once, and of one that it cannot read to its end.
        """
        import torch

        try:
            self._text.check(instruction, "the judge", param="instruction")
        except InstructionTooLong:  # for the judge: who edits may read more
            return None
        with torch.inference_mode():
            read = self._text.embed(instruction), self._text.count(instruction)
            found = self._known.following(self._levels(before), self._levels(after), *read)
        return None if found is None else found[0]

    def _levels(self, picture: np.ndarray) -> torch.Tensor:
        """(H, W, 3) uint8 -> (1, 3, H, W) float32 in 0..1."""
        from engine.models.pictures import to_unit

        return (to_unit(np.stack([picture]), self._device) + 1) / 2


def find_judge(name: str) -> str:
    """Digest all that the word of a model's judge depends on; no torch.

    Raises `ModelUnknown`, and `ModelError` for a model without a judge.
    """
    return digest_parts(_folder_of(name), READS)


def _folder_of(name: str) -> Path:
    folder = Path(find_model(name).source)
    if not all((folder / part / "config.json").exists() for part in (KNOWN_EDITS, JUDGE)):
        raise ModelError(
            f"{name} has no judge of edits: give a model whose folder holds {KNOWN_EDITS}/ and "
            f"{JUDGE}/, such as pocket"
        )
    verify_weights(folder)
    return folder
