"""The place where the model runs, as the service sees it: no Ray here."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from engine.edit import EditOutcome, EditRequest
from serve_app.schemas import Readiness


@dataclass(frozen=True, slots=True)
class Preview:
    """A partial image of a request."""

    index: int  # counts from 0
    pixels: np.ndarray  # (H, W, 3) uint8 RGB at model size


class Backend(Protocol):
    """Has the model edit. Cancelling a call cancels its edit."""

    async def edit(self, request: EditRequest) -> EditOutcome:
        """Return the outcome of an edit; raises `TransientError` where no replica gave one."""

    def edit_stream(self, request: EditRequest) -> AsyncGenerator[Preview | EditOutcome, None]:
        """Yield the previews that `request` asks for, then the outcome. Raises as `edit` does."""

    async def ready(self) -> Readiness:
        """Wait until a replica with a loaded model has answered."""
