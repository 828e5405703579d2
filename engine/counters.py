"""The work of a loop, added up since it began."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class LoopCounters:
    """Counts that only grow."""

    steps: int = 0
    calls: int = 0
    branches: int = 0  # branches computed, without padding
    branches_saved: int = 0  # branches of the model's kind of guidance that an edit did not need
    branches_padded: int = 0  # branches that only filled a bucket
    out_of_memory: int = 0  # calls that did not fit
    lora_loads: int = 0  # LoRAs read onto the device, those of the start among them
    wait_s: float = 0.0  # from arrival to the first step, summed over requests
    busy_s: float = 0.0  # in `step`

    def count_call(self, needed: int, whole: int, padding: int) -> None:
        """Count a model call of `needed` branches out of `whole`, and `padding` beside them."""
        self.calls += 1
        self.branches += needed
        self.branches_padded += padding
        self.branches_saved += whole - needed
