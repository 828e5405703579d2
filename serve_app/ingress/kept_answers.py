"""Answers that were given under a name, kept for who asks again; who asks meanwhile waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

ENTRY_BYTES = 1024  # an entry beside its answer: names, digests, Python's objects


@dataclass(frozen=True, slots=True)
class Kept:
    """The body of a 200, as it was sent."""

    media_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a name stands for."""

    digest: str  # of what was first asked under it
    answer: Kept | None = None  # None: who asked is to find it, if the digest is its own


class AnswerStore(Protocol):
    """Keeps answers, in this process or in one that several ingresses share."""

    async def claim(self, name: str, digest: str, holder: str, lease_s: float) -> Claimed:
        """Tell what `name` stands for. Where it stands for nothing, it is `holder`'s for at most
        `lease_s`; where it is another's with the same digest, wait for what comes of that."""

    async def keep(self, name: str, holder: str, answer: Kept, for_s: float) -> None:
        """Keep the answer of a name that is `holder`'s; nothing happens where it is not."""

    async def release(self, name: str, holder: str) -> None:
        """Free a name that is `holder`'s, without an answer."""


@dataclass(slots=True)
class _Claim:
    digest: str
    holder: str
    until_s: float
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class _Entry:
    digest: str
    answer: Kept
    until_s: float

    @property
    def size_bytes(self) -> int:
        return len(self.answer.body) + ENTRY_BYTES


class KeptAnswers:
    """Keeps answers in the memory of this process: at most `max_bytes` of them, of which the oldest
    go first. `clock` gives seconds."""

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes, self._clock = max_bytes, clock
        self._claims: dict[str, _Claim] = {}
        self._entries: dict[str, _Entry] = {}  # the oldest first
        self.size_bytes = 0

    async def claim(self, name: str, digest: str, holder: str, lease_s: float) -> Claimed:
        while True:
            now = self._clock()
            if (entry := self._entry(name, now)) is not None:
                return Claimed(entry.digest, entry.answer)
            claim = self._claims.get(name)
            if claim is None or claim.until_s <= now:  # its holder must have died
                self._claims[name] = _Claim(digest, holder, now + lease_s)
                return Claimed(digest)
            if claim.digest != digest:
                return Claimed(claim.digest)
            with suppress(TimeoutError):
                async with asyncio.timeout(claim.until_s - now):
                    await claim.ended.wait()

    async def keep(self, name: str, holder: str, answer: Kept, for_s: float) -> None:
        claim = self._ended(name, holder)
        if claim is None:
            return
        entry = _Entry(claim.digest, answer, self._clock() + for_s)
        if entry.size_bytes > self._max_bytes:
            return
        self._entries[name] = entry
        self.size_bytes += entry.size_bytes
        while self.size_bytes > self._max_bytes:
            self._forget(next(iter(self._entries)))

    async def release(self, name: str, holder: str) -> None:
        self._ended(name, holder)

    def _entry(self, name: str, now: float) -> _Entry | None:
        entry = self._entries.get(name)
        if entry is not None and entry.until_s <= now:
            self._forget(name)
            return None
        return entry

    def _forget(self, name: str) -> None:
        self.size_bytes -= self._entries.pop(name).size_bytes

    def _ended(self, name: str, holder: str) -> _Claim | None:
        """End the claim that `holder` has on a name; whoever waits looks again."""
        claim = self._claims.get(name)
        if claim is None or claim.holder != holder:
            return None
        del self._claims[name]
        claim.ended.set()
        return claim
