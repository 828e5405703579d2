"""How far a job is: a bar on a terminal, a JSON line every few seconds elsewhere."""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from itertools import pairwise
from types import TracebackType
from typing import NamedTuple, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_S = 5.0
POINTS = 100


class FirstBlocks(NamedTuple):
    """When each worker's first block was done, and what they brought."""

    elapsed_s: float = 0.0
    rows: int = 0
    images: int = 0


class JobProgress:
    """Counts rows as they are done. `workers`: model actors that load at the same time."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.workers = 1
        self.blocks = 0
        self.done = 0
        self.failed = 0
        self.images = 0
        self._started = time.monotonic()
        self._first = FirstBlocks()
        self._last_s = 0.0  # when the latest block was done
        self._speeds: list[tuple[float, int]] = []  # (seconds since the start, images so far)
        self._printed = 0
        self._ended = threading.Event()
        self._lines = threading.Thread(target=self._print_lines, name="progress", daemon=True)
        self._bar: Progress | None = None
        if Console(stderr=True).is_terminal:
            self._bar = Progress(
                TextColumn("editing"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]:.2f} images/s, {task.fields[failed]} failed"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task("editing", total=total, rate=0.0, failed=0)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        else:
            self._lines.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            return
        self._ended.set()
        self._lines.join()
        if self.done != self._printed:
            self._print()

    @property
    def images_per_s(self) -> float:
        """Images a second from the end of the workers' first blocks to the latest one's: neither
        the model's load nor Ray's end counts, unless there are no more blocks than workers."""
        return self._per_s(self.images, self._first.images)

    @property
    def rows_per_s(self) -> float:
        """Rows a second, failed ones included, over the same time."""
        return self._per_s(self.done, self._first.rows)

    def _per_s(self, now: int, first: int) -> float:
        if now > first:
            return (now - first) / max(self._last_s - self._first.elapsed_s, 1e-9)
        return now / max(self._last_s, 1e-9)

    def speed_over_time(self) -> list[tuple[float, float]]:
        """(seconds since the start, images/s) over equal numbers of blocks, at most 100 points."""
        step = max(math.ceil(len(self._speeds) / POINTS), 1)
        marks = [(0.0, 0), *self._speeds[step - 1 :: step]]
        return [
            (round(later, 2), round((images - before) / max(later - earlier, 1e-9), 3))
            for (earlier, before), (later, images) in pairwise(marks)
        ]

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def add(self, done: int, failed: int, images: int) -> None:
        """Count what one block brought."""
        self.done += done
        self.failed += failed
        self.images += images
        self._note()
        if self._bar is not None:
            rate, failed = self.images_per_s, self.failed
            self._bar.update(self._task, completed=self.done, rate=rate, failed=failed)

    def _note(self) -> None:
        self._last_s = self.elapsed_s
        self.blocks += 1
        if self.blocks == self.workers:
            self._first = FirstBlocks(self._last_s, self.done, self.images)
        self._speeds.append((self._last_s, self.images))
        if len(self._speeds) >= 20 * POINTS:
            self._speeds = self._speeds[1::2]

    def _print_lines(self) -> None:
        """Also while a model is loaded: who watches must see that something lives."""
        while not self._ended.wait(LINE_EVERY_S):
            self._print()

    def _print(self) -> None:
        self._printed = self.done
        rate = self.rows_per_s
        line = {
            "done": self.done,
            "total": self.total,
            "failed": self.failed,
            "images_per_s": round(self.images_per_s, 3),
            "left_s": round((self.total - self.done) / rate) if rate else None,
        }
        print(json.dumps(line), file=sys.stderr, flush=True)
