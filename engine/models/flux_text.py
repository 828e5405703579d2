"""The text of FLUX.1: every token by T5, the whole of it by CLIP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch

from engine.models import Inputs, Placement
from engine.models.padded_tokenizer import PaddedTokenizer
from engine.models.parts import load_text_encoder
from engine.models.text_encoder import TextEncoder
from engine.tensor_cache import TensorCache

if TYPE_CHECKING:
    from transformers import CLIPTokenizer, PreTrainedTokenizerBase

TOKENS = 512  # that T5 reads; there is no mask, so its padding is part of the picture
KEPT_BYTES = 256 << 20  # of embeddings: 63 texts of 512 tokens in half precision


class FluxText:
    """Embeds a text, and keeps what it embedded lately."""

    def __init__(
        self,
        clip_tokenizer: CLIPTokenizer,
        clip: TextEncoder,
        t5_tokenizer: PreTrainedTokenizerBase,
        t5: TextEncoder,
    ) -> None:
        self._clip_tokenizer, self._clip = PaddedTokenizer(clip_tokenizer), clip
        self._t5_tokenizer, self._t5 = PaddedTokenizer(t5_tokenizer, TOKENS), t5
        self._kept = TensorCache(KEPT_BYTES)

    @classmethod
    def load(cls, folder: Path, placement: Placement) -> Self:
        """Load `tokenizer`, `text_encoder` and both of that name with `_2` of a FLUX.1 folder."""
        from transformers import AutoTokenizer, CLIPTextModel, CLIPTokenizer, T5EncoderModel

        return cls(
            CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
            load_text_encoder(CLIPTextModel, folder / "text_encoder", placement),
            AutoTokenizer.from_pretrained(folder / "tokenizer_2", local_files_only=True),
            load_text_encoder(T5EncoderModel, folder / "text_encoder_2", placement),
        )

    def check(self, text: str, model: str, *, param: str) -> None:
        """Raises `InstructionTooLong` for a text of which T5 would read a part only.

        CLIP, which gives the picture's style alone, reads the first 77 tokens of a longer one.
        """
        self._t5_tokenizer.check(text, model, param=param)

    def embed(self, text: str) -> Inputs:
        """Return `text` (T, D) and `pooled` (P,), in the encoders' dtype."""
        tokens, whole = self._kept.made_once(
            text, lambda: (self._embed_tokens(text), self._embed_whole(text))
        )
        return {"text": tokens, "pooled": whole}

    def _embed_tokens(self, text: str) -> torch.Tensor:
        return self._t5(self._t5_tokenizer.ids(text))[0][0]

    def _embed_whole(self, text: str) -> torch.Tensor:
        return self._clip(self._clip_tokenizer.ids(text)).pooler_output[0]
