"""Attention that a picture has from another one: Prompt-to-Prompt's arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from engine.pair import P2PAttention

# What diffusers calls the two attentions of a transformer block.
KINDS = {"attn1": "self", "attn2": "cross"}


class SharedAttention:
    """Hooks on the queries and keys of a UNet, which are all that its attention maps are made of.

    The first pass leads: its queries and keys are kept. Those that follow have them in place of
    their own, where they share. Outside of `shared` a pass is as it would be without hooks.
    """

    def __init__(self, unet: Any) -> None:
        self._kinds: tuple[str, ...] = ()
        self._rows: torch.Tensor | None = None
        self._kept: dict[torch.nn.Module, torch.Tensor] = {}
        for name, layer in unet.named_modules():
            kind = KINDS.get(name.rpartition(".")[2])
            if kind is not None:
                for projection in (layer.to_q, layer.to_k):
                    projection.register_forward_hook(partial(self._led, kind))

    @contextmanager
    def shared(self, attention: P2PAttention, rows: torch.Tensor) -> Iterator[None]:
        """Let the passes in the block follow the first of them in those `rows`, (N,) bool.

        Which rows is decided on the device: a call mixes them, and a CUDA graph captures it.
        """
        try:
            self._kinds = ("self", "cross") if attention == "both" else (attention,)
            self._rows = rows[:, None, None]
            yield
        finally:
            self._kinds, self._rows, self._kept = (), None, {}

    def _led(
        self, kind: str, projection: torch.nn.Module, _: Any, own: torch.Tensor
    ) -> torch.Tensor | None:
        """A hook: `own` (N, T, D) are a projection's queries or keys; `None` leaves them."""
        if self._rows is None or kind not in self._kinds:
            return None
        if projection not in self._kept:
            self._kept[projection] = own
            return None
        return torch.where(self._rows, self._kept[projection], own)
