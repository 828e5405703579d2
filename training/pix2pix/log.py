"""The log of a run: a line of JSON every few steps."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from training.pix2pix.latents import write_whole

NAME = "log.jsonl"
LOOK_EVERY_S = 2.0


class Log:
    """That of one folder."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / NAME

    def lines(self) -> list[dict[str, Any]]:
        """Read its lines; one that is half written is none yet."""
        found = []
        if self._file.exists():
            for line in self._file.read_text().splitlines():
                with suppress(ValueError):
                    found.append(json.loads(line))
        return found

    def write(self, line: dict[str, Any]) -> None:
        """Add a line."""
        with self._file.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def cut(self, step: int) -> None:
        """Forget what came after `step`: it comes again."""
        if self._file.exists():
            kept = [json.dumps(line) + "\n" for line in self.lines() if line["step"] <= step]
            write_whole(self._file, "".join(kept).encode())

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Print each new line while a block lasts."""
        ended = threading.Event()
        thread = threading.Thread(target=self._show, args=(ended,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _show(self, ended: threading.Event) -> None:
        shown = max((line["step"] for line in self.lines()), default=0)
        while True:
            is_last = ended.wait(LOOK_EVERY_S)
            for line in self.lines():
                if line["step"] > shown:
                    print(json.dumps(line), file=sys.stderr, flush=True)
                    shown = line["step"]
            if is_last:
                return
