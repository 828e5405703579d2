"""What a loop did, added up since it began."""

from __future__ import annotations

from dataclasses import dataclass

from engine.step import MAX_BRANCHES


@dataclass(slots=True)
class LoopCounters:
    """What a loop did.

    `rows`: branch rows computed; `rows_saved`: those that guidance did not need; `rows_padded`:
    those that only filled a bucket; `wait_s`: from arrival to the first step, added up over
    requests; `busy_s`: seconds in `step`; `out_of_memory`: calls that did not fit.
    """

    steps: int = 0
    calls: int = 0
    rows: int = 0
    rows_saved: int = 0
    rows_padded: int = 0
    out_of_memory: int = 0
    wait_s: float = 0.0
    busy_s: float = 0.0

    def count_call(self, samples: int, rows: int, padding: int) -> None:
        """A model call for this many samples, of this many rows, padding included."""
        self.calls += 1
        self.rows += rows - padding
        self.rows_padded += padding
        self.rows_saved += MAX_BRANCHES * samples - (rows - padding)
