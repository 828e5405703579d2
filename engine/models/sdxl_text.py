"""The text of SDXL: every token by two CLIPs beside each other, the whole of it by the second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch

from engine.models import Inputs, Placement
from engine.models.padded_tokenizer import PaddedTokenizer
from engine.models.parts import load_text_encoder
from engine.models.text_encoder import TextEncoder
from engine.tensor_cache import TensorCache

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

KEPT_BYTES = 128 << 20  # of embeddings: 420 texts of 77 tokens in half precision


class SdxlText:
    """Embeds a text, and keeps what it embedded lately."""

    def __init__(
        self,
        tokenizers: Sequence[CLIPTokenizer],
        encoders: tuple[TextEncoder, TextEncoder],
        *,
        no_text_is_zeros: bool,
    ) -> None:
        """`no_text_is_zeros`: the embedding of no text, where it is not that of an empty one."""
        self._tokenizers = [PaddedTokenizer(tokenizer) for tokenizer in tokenizers]
        self._encoders = encoders
        self._no_text_is_zeros = no_text_is_zeros
        self._kept = TensorCache(KEPT_BYTES)

    @classmethod
    def load(cls, folder: Path, placement: Placement, *, no_text_is_zeros: bool) -> Self:
        """Load `tokenizer`, `text_encoder` and both of that name with `_2` of an SDXL folder."""
        from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

        tokenizers = [
            CLIPTokenizer.from_pretrained(folder / name, local_files_only=True)
            for name in ("tokenizer", "tokenizer_2")
        ]
        first = load_text_encoder(CLIPTextModel, folder / "text_encoder", placement)
        second = load_text_encoder(
            CLIPTextModelWithProjection, folder / "text_encoder_2", placement
        )
        return cls(tokenizers, (first, second), no_text_is_zeros=no_text_is_zeros)

    def check(self, text: str, model: str, *, param: str) -> None:
        """Raises `InstructionTooLong` for a text that one of the encoders would read a part of."""
        for tokenizer in self._tokenizers:
            tokenizer.check(text, model, param=param)

    def embed(self, text: str | None) -> Inputs:
        """Return `text` (T, D) and `pooled` (P,), in the encoders' dtype; `None`: no text."""
        if text is None and self._no_text_is_zeros:
            return {name: torch.zeros_like(tensor) for name, tensor in self.embed("").items()}
        words = text or ""
        tokens, whole = self._kept.made_once(words, lambda: self._embed(words))
        return {"text": tokens, "pooled": whole}

    def _embed(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the tokens what stands before an encoder's last layer, of the whole its projection."""
        first, second = (
            encoder(tokenizer.ids(text), output_hidden_states=True)
            for tokenizer, encoder in zip(self._tokenizers, self._encoders, strict=True)
        )
        tokens = torch.cat([first.hidden_states[-2][0], second.hidden_states[-2][0]], dim=-1)
        return tokens, second.text_embeds[0]
