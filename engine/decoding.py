"""Finished samples as images: one that cannot be decoded fails alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from engine.errors import NonFinite
from engine.isolation import isolate
from engine.lane import Lane
from engine.models import Editor
from engine.options import Determinism
from engine.samples import Sample

PIXELS_TOGETHER = 512 * 512  # one picture of this size fills a GPU, and takes GBs to decode


class Decoder:
    """Decodes samples of a lane, small ones several at a time."""

    def __init__(self, editor: Editor, determinism: Determinism) -> None:
        self._editor = editor
        self._determinism = determinism

    def max_pictures(self, lane: Lane) -> int:
        """Tell how many pictures encoder and decoder take at a time: one, but for small ones."""
        small = PIXELS_TOGETHER // lane.area_px
        return max(small, 1) if self._determinism == "seeded" else 1

    def decode(self, lane: Lane, samples: Sequence[Sample]) -> None:
        """Make the images of finished samples, or their errors."""
        size = self.max_pictures(lane)
        for start in range(0, len(samples), size):
            group = samples[start : start + size]
            isolate(self._decode_together, group, self._decode_in_float32)

    def _decode_together(self, samples: Sequence[Sample], *, float32: bool = False) -> None:
        latents = torch.stack([sample.state[0] for sample in samples])
        if not torch.isfinite(latents).all():
            raise NonFinite("the model produced NaN or infinity for this image")
        images = self._editor.decode(latents, float32=float32)
        for sample, image in zip(samples, images, strict=True):
            sample.live.images[sample.index] = image

    def _decode_in_float32(self, sample: Sample, error: BaseException) -> None:
        """The one retry of an image that left half precision's range."""
        if isinstance(error, NonFinite):
            isolate(partial(self._decode_together, float32=True), [sample], Sample.fail)
        else:
            sample.fail(error)
