"""How far a job is: a bar on a terminal, a JSON line every few seconds elsewhere.

Speed is rows over the time of editing. It ends with the latest block: Ray's own end does not count.
It begins when the models are loaded, which nobody tells: until as many blocks are done as there are
workers, each may have loaded its own. What was done by then is taken to have been done at the speed
that came later; while nothing came later, editing begins with the run.
"""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from types import TracebackType
from typing import NamedTuple, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_S = 5.0
POINTS = 100  # of the speed over time, as report.html draws it


class Mark(NamedTuple):
    """What was done when a block ended."""

    elapsed_s: float = 0.0
    rows: int = 0
    images: int = 0


class JobProgress:
    """Counts rows as they are done, and tells of them every `line_every_s` seconds."""

    def __init__(
        self,
        total: int,
        line_every_s: float = LINE_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total  # rows
        self.workers = 1  # model actors that load at the same time
        self.blocks = 0  # done
        self.done = 0  # rows, failed ones included
        self.failed = 0  # rows
        self.images = 0  # published
        self._line_every_s = line_every_s
        self._clock = clock
        self._started = clock()
        self._loaded = Mark()  # from here on the speed is counted
        self._latest_s = 0.0  # when the latest block was done
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
    def begin_s(self) -> float:
        """Seconds from the start of the run to that of editing, as the module counts them."""
        later = self.done - self._loaded.rows
        if later <= 0 or not self._loaded.rows:
            return 0.0
        row_s = (self._latest_s - self._loaded.elapsed_s) / later
        return max(self._loaded.elapsed_s - self._loaded.rows * row_s, 0.0)

    @property
    def editing_s(self) -> float:
        """Seconds of editing so far."""
        return self._latest_s - self.begin_s

    @property
    def images_per_s(self) -> float:
        """Images a second of editing."""
        return self.images / max(self.editing_s, 1e-9)

    @property
    def rows_per_s(self) -> float:
        """Rows a second of editing, failed ones included."""
        return self.done / max(self.editing_s, 1e-9)

    def speed_over_time(self) -> list[tuple[float, float]]:
        """Return (seconds since editing began, images/s) over equal numbers of blocks, at most
        `POINTS` times."""
        begin_s = self.begin_s
        known = [mark for mark in self._speeds if mark[0] >= self._loaded.elapsed_s]
        step = max(math.ceil(len(known) / POINTS), 1)
        marks = [(begin_s, 0), *known[step - 1 :: step]]
        return [
            (round(later - begin_s, 2), round((images - before) / max(later - earlier, 1e-9), 3))
            for (earlier, before), (later, images) in pairwise(marks)
        ]

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._started

    def add(self, done: int, failed: int, images: int) -> None:
        """Count what one block brought."""
        self.done += done
        self.failed += failed
        self.images += images
        self._end_block()
        if self._bar is not None:
            rate, failed = self.images_per_s, self.failed
            self._bar.update(self._task, completed=self.done, rate=rate, failed=failed)

    def _end_block(self) -> None:
        self._latest_s = self.elapsed_s
        self.blocks += 1
        if self.blocks == self.workers:
            self._loaded = Mark(self._latest_s, self.done, self.images)
        self._speeds.append((self._latest_s, self.images))
        if len(self._speeds) >= 20 * POINTS:
            self._speeds = self._speeds[1::2]

    def _print_lines(self) -> None:
        """Print a line every few seconds, also while a model loads: so one sees that it lives."""
        while not self._ended.wait(self._line_every_s):
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
