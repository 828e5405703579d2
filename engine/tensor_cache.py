"""Encoded texts and sources, and adapters, that are kept, as many as fit into so many bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Protocol, TypeVar


class Sized(Protocol):
    """A tensor, or what holds some."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""


T = TypeVar("T", bound="Sized | tuple[Sized, ...]")


class TensorCache:
    """The tensors that were used last, by key. Not for several threads."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Hashable, Sized | tuple[Sized, ...]] = OrderedDict()
        self._bytes = 0

    def __iter__(self) -> Iterator[Any]:
        """Yield the keys of what is kept, the first to go first."""
        return iter(self._kept)

    def get(self, key: Hashable) -> Any:
        """Return what is kept under `key`, which is the last to go from now on; else None."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def made_once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is kept under `key`; where nothing is, make it and keep it."""
        kept: Any = self.get(key)
        if kept is None:
            kept = make()
            self.put(key, kept)
        return kept

    def put(self, key: Hashable, kept: Sized | tuple[Sized, ...]) -> None:
        """Keep `kept`, and drop what was used longest ago where there is too much."""
        self._drop(key)
        self._kept[key] = kept
        self._bytes += _size_bytes(kept)
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: Hashable) -> None:
        if (gone := self._kept.pop(key, None)) is not None:
            self._bytes -= _size_bytes(gone)


def _size_bytes(kept: Sized | tuple[Sized, ...]) -> int:
    held = kept if isinstance(kept, tuple) else (kept,)
    return sum(one.nbytes for one in held)
