"""Checkpoints of a run: files of its output, each there as a whole or not at all."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import torch

from engine.errors import OptionInvalid
from training.pix2pix.latents import write_whole

LATEST, NONE = "latest", "none"
_NAME = re.compile(r"checkpoint-(\d+)\.pt")


class Checkpoints:
    """Those in one folder: `checkpoint-500.pt`."""

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        """`limit`: how many stay; default: all."""
        self._folder, self._limit = folder, limit

    def steps(self) -> list[int]:
        """List the steps that there are checkpoints of, in their order."""
        found = map(_NAME.fullmatch, (file.name for file in self._folder.glob("checkpoint-*.pt")))
        return sorted(int(match[1]) for match in found if match)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write one, and remove what is too many."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_whole(self._file(step), buffer.getvalue())
        for old in self.steps()[: -self._limit] if self._limit else ():
            self._file(old).unlink()

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """Read the newest; None where there is none."""
        steps = self.steps()
        if not steps:
            return None
        state: dict[str, Any] = torch.load(
            self._file(steps[-1]), map_location=device, weights_only=True
        )
        return state

    def rewind(self, wanted: str) -> None:
        """Make the newest the one that is `wanted`: latest, none of them, or checkpoint-500.

        Raises `OptionInvalid` for one that there is not.
        """
        if wanted == LATEST:
            return
        known = {f"checkpoint-{step}": step for step in self.steps()}
        if wanted != NONE and wanted not in known:
            raise OptionInvalid(
                f"--resume_from_checkpoint {wanted}: {self._folder} has {', '.join(known) or NONE}",
                param="resume_from_checkpoint",
            )
        for step in known.values():
            if step > known.get(wanted, -1):
                self._file(step).unlink()

    def _file(self, step: int) -> Path:
        return self._folder / f"checkpoint-{step}.pt"
