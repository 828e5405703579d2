"""Encoded texts and sources that are kept, as many as fit into so many bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch

T = TypeVar("T", bound="torch.Tensor | tuple[torch.Tensor, ...]")


class TensorCache:
    """The tensors that were used last, by key. Not for several threads."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Hashable, torch.Tensor | tuple[torch.Tensor, ...]] = OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable) -> torch.Tensor | tuple[torch.Tensor, ...] | None:
        """Return what is kept under `key`, which is the last to go from now on."""
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

    def put(self, key: Hashable, kept: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        """Keep `kept`, and drop what was used longest ago where there is too much."""
        self._drop(key)
        self._kept[key] = kept
        self._bytes += _size_bytes(kept)
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: Hashable) -> None:
        if (gone := self._kept.pop(key, None)) is not None:
            self._bytes -= _size_bytes(gone)


def _size_bytes(kept: torch.Tensor | tuple[torch.Tensor, ...]) -> int:
    tensors = (kept,) if isinstance(kept, torch.Tensor) else kept
    return sum(tensor.nbytes for tensor in tensors)
