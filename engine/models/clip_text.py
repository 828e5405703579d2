"""The text of Stable Diffusion 1.x: every token by CLIP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch

from engine.models import Placement
from engine.models.padded_tokenizer import PaddedTokenizer
from engine.models.parts import load_text_encoder
from engine.models.text_encoder import TextEncoder
from engine.tensor_cache import TensorCache

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

KEPT_BYTES = 128 << 20  # of embeddings: 1,100 texts of CLIP-L in half precision


class ClipText:
    """Embeds a text, and keeps what it embedded lately."""

    def __init__(self, tokenizer: CLIPTokenizer, encoder: TextEncoder, dtype: torch.dtype) -> None:
        """`dtype`: of the embeddings."""
        self._tokenizer = PaddedTokenizer(tokenizer)
        self._encoder = encoder
        self._dtype = dtype
        self._kept = TensorCache(KEPT_BYTES)

    @classmethod
    def load(cls, folder: Path, placement: Placement) -> Self:
        """Load tokenizer and encoder of a model."""
        from transformers import CLIPTextModel, CLIPTokenizer

        return cls(
            CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
            load_text_encoder(CLIPTextModel, folder / "text_encoder", placement),
            placement.dtype,
        )

    def check(self, text: str, model: str, *, param: str) -> None:
        """Raises `InstructionTooLong` for a text that CLIP would cut; `param` names it."""
        self._tokenizer.check(text, model, param=param)

    def count(self, text: str) -> int:
        """Count the tokens of a text, its ends among them."""
        return int(self._tokenizer.ids_and_mask(text)[1].sum())

    def embed(self, text: str) -> torch.Tensor:
        """Return (T, D), padded to the encoder's full length; kept for the next time."""
        return self._kept.made_once(text, lambda: self._embed(text))

    def _embed(self, text: str) -> torch.Tensor:
        ids, attended = self._tokenizer.ids_and_mask(text)
        uses_mask = getattr(self._encoder.config, "use_attention_mask", False)
        hidden = self._encoder(ids, attention_mask=attended if uses_mask else None)[0]
        return hidden[0].to(self._dtype)
