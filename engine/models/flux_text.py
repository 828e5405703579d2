"""The text of FLUX.1: every token by T5, the whole of it by CLIP."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch

from engine.models import Inputs
from engine.models.parts import load_part
from engine.tensor_cache import TensorCache
from engine.text import check_length

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerBase, T5EncoderModel

TOKENS = 512  # that T5 reads; there is no mask, so its padding is part of the picture
KEPT_BYTES = 256 << 20  # of embeddings: 63 texts of 512 tokens in half precision


class FluxText:
    """Embeds a text, and keeps what it embedded lately."""

    def __init__(
        self,
        clip_tokenizer: CLIPTokenizer,
        clip: CLIPTextModel,
        t5_tokenizer: PreTrainedTokenizerBase,
        t5: T5EncoderModel,
    ) -> None:
        self._clip_tokenizer, self._clip = clip_tokenizer, clip
        self._t5_tokenizer, self._t5 = t5_tokenizer, t5
        self._tokenizing = threading.Lock()  # padding settings are shared state of a tokenizer
        self._kept = TensorCache(KEPT_BYTES)

    @classmethod
    def load(cls, folder: Path, device: torch.device, dtype: torch.dtype) -> Self:
        """Load `tokenizer`, `text_encoder` and both of that name with `_2` of a FLUX.1 folder."""
        from transformers import AutoTokenizer, CLIPTextModel, CLIPTokenizer, T5EncoderModel

        return cls(
            CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
            load_part(CLIPTextModel, folder / "text_encoder", device, dtype),
            AutoTokenizer.from_pretrained(folder / "tokenizer_2", local_files_only=True),
            load_part(T5EncoderModel, folder / "text_encoder_2", device, dtype),
        )

    def check(self, text: str, model: str, *, param: str) -> None:
        """Raises `InstructionTooLong` for a text of which T5 would read a part only.

        CLIP, which gives the picture's style alone, reads the first 77 tokens of a longer one.
        """
        with self._tokenizing:
            count = len(self._t5_tokenizer(text, verbose=False).input_ids)
        check_length(count, TOKENS, model, param=param)

    def embed(self, text: str) -> Inputs:
        """Return `text` (T, D) and `pooled` (P,), in the encoders' dtype."""
        kept = self._kept.get(text)
        if kept is None:
            kept = (self._embed_tokens(text), self._embed_whole(text))
            self._kept.put(text, kept)
        tokens, whole = kept
        return {"text": tokens, "pooled": whole}

    def _embed_tokens(self, text: str) -> torch.Tensor:
        ids = self._ids(self._t5_tokenizer, text, TOKENS)
        return self._t5(ids.to(self._t5.device))[0][0]

    def _embed_whole(self, text: str) -> torch.Tensor:
        ids = self._ids(self._clip_tokenizer, text, self._clip_tokenizer.model_max_length)
        return self._clip(ids.to(self._clip.device)).pooler_output[0]

    def _ids(self, tokenizer: PreTrainedTokenizerBase, text: str, length: int) -> torch.Tensor:
        """(1, `length`), padded and cut."""
        with self._tokenizing:
            tokens = tokenizer(
                text,
                padding="max_length",
                max_length=length,
                truncation=True,
                return_tensors="pt",
            )
        return tokens.input_ids
