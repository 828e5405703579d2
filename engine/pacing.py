"""How far the host may run ahead of the device."""

from __future__ import annotations

import torch


class LaunchPacer:
    """Keeps the host at most one step ahead of a GPU, so that a step's end is nearly its end."""

    def __init__(self, device: torch.device) -> None:
        self._last = torch.cuda.Event() if device.type == "cuda" else None

    def launched(self) -> None:
        """Note that a step was launched, and wait until the one before it is done."""
        if self._last is not None:
            self._last.synchronize()
            self._last = torch.cuda.Event()
            self._last.record()
