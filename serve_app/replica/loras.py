"""The LoRAs of a replica, as Serve's routers are told of them: an edit goes to where its own is."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from engine.edit import EditRequest

logger = logging.getLogger("ray.serve")

Tell = Callable[[Collection[str]], None]  # takes the names of LoRAs


class ToldLoras:
    """Tells which LoRAs a replica holds, and which it is about to read, whenever that changes.

    `held`: the names of those that the engine holds, which alone keeps the book of them.
    """

    def __init__(self, held: Callable[[], Collection[str]], tell: Tell) -> None:
        self._held, self._tell = held, tell
        self._asked: defaultdict[str, int] = defaultdict(int)  # edits that are here, by LoRA
        self._told: set[str] = set()
        self._update()

    @contextmanager
    def asked(self, request: EditRequest) -> Iterator[None]:
        """Count an edit while it is here; its LoRA is told before it is read."""
        if request.adapter is None:
            yield
            return
        name = request.adapter.name
        self._asked[name] += 1
        self._update()
        try:
            yield
        finally:
            self._asked[name] -= 1
            self._update()

    def _update(self) -> None:
        now = {*self._held(), *(name for name, edits in self._asked.items() if edits)}
        if now == self._told:
            return
        try:
            self._tell(now)
        except Exception as error:  # no edit fails for it
            logger.warning("Serve was not told which LoRAs this replica has: %s", error)
        else:
            self._told = now
