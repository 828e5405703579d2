"""Where the model runs, as the service sees it: no Ray here."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from engine.edit import EditOutcome, EditRequest
from serve_app.schemas import Readiness


@dataclass(frozen=True, slots=True)
class Preview:
    """Partial image `index` of a request: `pixels` (H, W, 3) uint8 RGB at model size."""

    index: int
    pixels: np.ndarray


class Backend(Protocol):
    """Where the model runs. Cancelling a call cancels its edit."""

    async def edit(self, request: EditRequest) -> EditOutcome:
        """Raises `TransientError` where no replica gave an outcome."""

    def edit_stream(self, request: EditRequest) -> AsyncGenerator[Preview | EditOutcome, None]:
        """The previews that `request` asks for, then the outcome. Raises as `edit` does."""

    async def ready(self) -> Readiness:
        """Returns when a replica with a loaded model has answered."""
