"""The source after the autoencoder alone: what an edit is measured against, not its source."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from engine.errors import InternalError, NonFinite
from engine.models import Editor
from engine.samples import LiveRequest
from engine.tensor_cache import TensorCache

KEPT_BYTES = 64 << 20  # of reconstructions: 21 canvases of a megapixel, 1,300 of pocket's


class Reconstructions:
    """Decodes the latents of sources; one whose digest was met lately is not decoded again."""

    def __init__(self, editor: Editor) -> None:
        self._editor = editor
        self._kept = TensorCache(KEPT_BYTES)

    def reconstruct(self, lives: Sequence[LiveRequest]) -> None:
        """Give each request that is compared with its source the canvas after the autoencoder.

        They have samples, and canvases of one shape. Raises `InternalError` where a family gave no
        source, and what `Editor.decode` raises.
        """
        asking = [live for live in lives if live.request.compares_source]
        for live in asking:
            kept = self._kept.get(_key(live))
            live.reconstructed = kept.numpy() if isinstance(kept, torch.Tensor) else None
        new = [live for live in asking if live.reconstructed is None]
        pictures = self._decode([_latents_of(live) for live in new]) if new else []
        for live, pixels in zip(new, pictures, strict=True):
            live.reconstructed = pixels
            if live.request.digest:
                self._kept.put(_key(live), torch.from_numpy(pixels))

    def _decode(self, latents: Sequence[torch.Tensor]) -> list[np.ndarray]:
        together = torch.stack(list(latents))
        try:
            return self._editor.decode(together)
        except NonFinite:
            return self._editor.decode(together, float32=True)


def _key(live: LiveRequest) -> tuple[str, tuple[int, ...]]:
    return live.request.digest, live.request.pixels.shape


def _latents_of(live: LiveRequest) -> torch.Tensor:
    source = live.samples[0].conditioning.source
    if source is None:
        raise InternalError(
            "this model's family keeps no source: edit without mask, detail, preserve, "
            "measures and repair"
        )
    return source
