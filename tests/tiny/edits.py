"""One edit, before anybody's names for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests.conftest import photograph


@dataclass(frozen=True, slots=True)
class Edit:
    """What diffusers' pipeline and rayedit are both asked for.

    `sources`: (H, W, 3) uint8 each; the first one's shape is the canvas. `options`: by the names
    that diffusers and rayedit share. `mask` (H, W) uint8: 255 where the picture may change.
    """

    sources: tuple[np.ndarray, ...]
    instruction: str = "make it night"
    seed: int = 7
    options: Mapping[str, Any] = field(default_factory=lambda: {"num_inference_steps": 3})
    mask: np.ndarray | None = None

    @property
    def canvas(self) -> dict[str, int]:
        """Its `height` and `width` in px."""
        height, width = self.sources[0].shape[:2]
        return {"height": height, "width": width}

    @property
    def images(self) -> list[Image.Image]:
        return [Image.fromarray(source) for source in self.sources]

    @property
    def generator(self) -> torch.Generator:
        """Its draws, as a user of diffusers would seed them."""
        return torch.Generator("cpu").manual_seed(self.seed)


def source(name: str, width_px: int, height_px: int) -> np.ndarray:
    """A photograph at this size, (H, W, 3) uint8."""
    image = Image.fromarray(photograph(name)).resize((width_px, height_px))
    return np.asarray(image)
