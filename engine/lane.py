"""Which requests can share model calls, as far as it is known before any text is encoded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from engine.adapter import Adapter
from engine.edit import EditRequest


@dataclass(frozen=True, slots=True)
class Lane:
    """The shape of an edit: requests of one lane are encoded and stepped together. Hashable."""

    height_px: int
    width_px: int
    references: tuple[tuple[int, int], ...] = ()  # (height, width) in px of each further source
    masked: bool = False
    adapter: Adapter | None = None

    @classmethod
    def of(cls, request: EditRequest) -> Self:
        """Return the lane that a request belongs to."""
        height, width = request.pixels.shape[:2]
        references = tuple((r.shape[0], r.shape[1]) for r in request.references)
        return cls(height, width, references, request.mask is not None, request.adapter)

    @property
    def shape(self) -> Self:
        """The same without its adapter, which hardly changes what a step takes."""
        return replace(self, adapter=None)

    @property
    def area_px(self) -> int:
        """Pixels of the canvas."""
        return self.height_px * self.width_px
